/**
 * @file Runs a recorded program on the CUDA provider: `runs` runs of `steps` steps or samples each. The folder of onnxruntime-node is
 * given by its path, because the provider's files lie in a copy. Started by ../cuda-placement.js.
 *
 *     node tools/cuda-placement/replay.js NODE_MODULES PROGRAM RUNS STEPS [verbose]
 */

import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'

const [modules, folder, runs, steps, verbose] = process.argv.slice(2)
const ort = createRequire(join(modules, 'x.js'))('onnxruntime-node')
const { options, external, meta } = JSON.parse(readFileSync(join(folder, 'feeds.json'), 'utf8'))
const bytes = readFileSync(join(folder, 'feeds.bin'))
const ARRAYS = { float32: Float32Array, int64: BigInt64Array, int32: Int32Array, bool: Uint8Array, uint8: Uint8Array }
ARRAYS.uint16 = ARRAYS.float16 = Uint16Array

const recorded = meta.find(({ counted }) => counted)?.dims[0]

/** The first of the recorded elements, as often as there are steps. */
function repeated(array, dims) {
  const one = array.subarray(0, array.length / dims[0])
  const all = new array.constructor(one.length * Number(steps))
  for (let i = 0; i < Number(steps); i++) all.set(one, i * one.length)
  return all
}

const feeds = {}
let at = 0
for (const { name, type, dims, bytes: length, counted } of meta) {
  const copy = bytes.buffer.slice(bytes.byteOffset + at, bytes.byteOffset + at + length)
  at += length
  const array = new ARRAYS[type](copy)
  const isCount = type === 'int64' && dims.length === 0 && Number(array[0]) === recorded
  if (isCount) array[0] = BigInt(steps)
  const data = counted ? repeated(array, dims) : array
  const tensor = new ort.Tensor(
    type === 'float16' ? 'uint16' : type,
    data,
    counted ? [Number(steps), ...dims.slice(1)] : dims,
  )
  feeds[name] = type === 'float16' ? Object.defineProperty(tensor, 'type', { value: 'float16' }) : tensor
}
const extra = options.extra?.session ?? {}
const key = 'model_external_initializers_file_folder_path'
if (key in extra) extra[key] = folder
if (verbose) ort.env.logLevel = 'verbose'
const session = await ort.InferenceSession.create(readFileSync(join(folder, 'program.onnx')), {
  ...options,
  externalData: external.map(path => ({ path, data: readFileSync(join(folder, path)) })),
  executionProviders: [{ name: 'cuda', deviceId: 0 }],
  logSeverityLevel: verbose ? 0 : 4,
})
for (let i = 0; i < Number(runs); i++) await session.run(feeds)
await session.release()
