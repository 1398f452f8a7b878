/**
 * @file onnxruntime-web in Node, on WebAssembly, one thread. Needs onnxruntime-web.
 *
 *     node test/clients/onnxruntime-web.js OUT
 */

import { createRequire } from 'node:module'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { compare, greedy } from './greedy.js'

const out = resolve(process.argv[2])
// From the folder it was installed in, which may be another than this one.
const require = createRequire(pathToFileURL(join(process.cwd(), 'x.js')))
const ort = require('onnxruntime-web')
ort.env.wasm.numThreads = 1
console.log(`onnxruntime-web ${ort.env.versions.web}, Node ${process.version}`)

/** A browser gets the data file beside the model as bytes, under the name that the model has for it. */
const dataOf = path =>
  ['_data', '.data']
    .map(ending => `${path}${ending}`)
    .filter(existsSync)
    .map(file => ({ path: basename(file), data: readFileSync(file) }))

let agree = true
for (const name of readdirSync(out).sort()) {
  const path = join(out, name, 'reference.json')
  if (!existsSync(path)) continue
  const reference = JSON.parse(readFileSync(path, 'utf8'))
  const model = join(out, name, reference.model)
  const options = { executionProviders: ['wasm'], externalData: dataOf(model) }
  const session = await ort.InferenceSession.create(new Uint8Array(readFileSync(model)), options)
  const result = await greedy(ort, session, reference.prompt, reference.tokens.length, reference.headSize)
  await session.release()
  const { agrees, line } = compare(reference, result)
  agree &&= agrees
  console.log(`${line}: ${name}`)
}
process.exitCode = agree ? 0 : 1
