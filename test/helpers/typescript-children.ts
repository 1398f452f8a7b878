/** @file Import it for its effect: processes that src starts run its TypeScript, as the tests do, and not what was built. */

import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

const hook = pathToFileURL(resolve(import.meta.dirname, '../fuzz/typescript.js'))
process.env['NODE_OPTIONS'] = `${process.env['NODE_OPTIONS'] ?? ''} --import ${hook.href}`
