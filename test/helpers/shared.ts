/** @file Where the development models, data and golden values lie: beside the project, and not in its repository. */

import { existsSync } from 'node:fs'
import { resolve } from 'node:path'

const candidates = [process.env['OMNIQUANT_SHARED'], resolve(import.meta.dirname, '../../../shared')]

/** Folder with models/, zoo/, data/ and golden/, or undefined: tests that need it then say so and are skipped. */
export const sharedDir: string | undefined = candidates.find(
  folder => folder !== undefined && existsSync(resolve(folder, 'golden')),
)
