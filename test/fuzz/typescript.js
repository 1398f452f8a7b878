/**
 * @file Makes Node run the TypeScript of this repository without a build: `node --import ./test/fuzz/typescript.js FILE.ts`. What was
 * translated lies in out/, by version of the compiler and digest of the source: many processes of tests start so.
 */

import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createRequire, register } from 'node:module'
import { join, resolve } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { isMainThread } from 'node:worker_threads'

const { version } = createRequire(import.meta.url)('typescript/package.json')
const KEPT = resolve(import.meta.dirname, '../../out/typescript', version)

if (isMainThread) register(import.meta.url)

/** JavaScript of a source, without its types. Nothing is checked. */
async function translate(source, url) {
  const { default: ts } = await import('typescript')
  const compilerOptions = { target: ts.ScriptTarget.ES2023, module: ts.ModuleKind.ESNext, inlineSourceMap: true }
  return ts.transpileModule(source, { compilerOptions, fileName: url }).outputText
}

/** Hook of Node's module loader. */
export async function load(url, context, next) {
  if (!url.endsWith('.ts')) return next(url, context)
  const source = readFileSync(fileURLToPath(url), 'utf8')
  const kept = join(KEPT, createHash('sha256').update(url).update(source).digest('hex'))
  try {
    return { format: 'module', source: readFileSync(kept, 'utf8'), shortCircuit: true }
  } catch {
    const translated = await translate(source, url)
    mkdirSync(KEPT, { recursive: true })
    writeFileSync(`${kept}.${process.pid}`, translated)
    renameSync(`${kept}.${process.pid}`, kept)
    return { format: 'module', source: translated, shortCircuit: true }
  }
}
