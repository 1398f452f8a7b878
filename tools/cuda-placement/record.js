/**
 * @file Quantizes the fixture on the CPU and records each program that a CUDA device would run, with the inputs of its first run.
 *
 *     node tools/cuda-placement/record.js FOLDER OPTIONS        OPTIONS: JSON, options of quantize
 */

import { Buffer } from 'node:buffer'
import { createRequire } from 'node:module'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import process from 'node:process'
import { decodeModel } from '../../dist/graph/onnx-file/decode.js'
import { tensorsOf } from '../../dist/graph/ir.js'
import { quantizeModel } from '../../dist/quant/quantize-model.js'

const [folder, options] = process.argv.slice(2)
const fixture = resolve(import.meta.dirname, '../../fixtures/tiny-llama')
const { InferenceSession } = createRequire(import.meta.url)('onnxruntime-node')

/** Copies the files that a program maps. */
function keepData(bytes, dataFolder, place) {
  const path = join(dataFolder, 'program.onnx')
  const { graph } = decodeModel(bytes, { path, realPath: path, sizeBytes: bytes.length })
  for (const file of new Set([...tensorsOf(graph)].map(({ data }) => data.file).filter(Boolean))) {
    const copy = join(place, relative(dataFolder, file))
    mkdirSync(dirname(copy), { recursive: true })
    copyFileSync(file, copy)
  }
}

const described = ({ type, dims, data }) => ({ type, dims, bytes: data.byteLength })
const bytesOf = ({ data }) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength)

let count = 0
const create = InferenceSession.create
InferenceSession.create = async (source, native) => {
  const onDevice = native.executionProviders.some(({ name }) => name === 'cuda')
  const session = await create.call(InferenceSession, source, { ...native, executionProviders: ['cpu'] })
  if (!onDevice) return session
  const place = join(folder, String(count++).padStart(3, '0'))
  mkdirSync(place, { recursive: true })
  writeFileSync(join(place, 'program.onnx'), source)
  const { externalData = [], ...options } = native
  for (const { path, data } of externalData) writeFileSync(join(place, path), data)
  const dataFolder = native.extra?.session?.model_external_initializers_file_folder_path
  if (dataFolder !== undefined) keepData(source, dataFolder, place)
  const run = session.run
  session.run = (feeds, ...rest) => {
    session.run = run
    const inputs = Object.entries(feeds)
    // A dimension with a name is the number of steps or samples of a run.
    const counted = new Map(session.inputMetadata.map(({ name, shape }) => [name, typeof shape[0] === 'string']))
    const meta = inputs.map(([name, tensor]) => ({ name, ...described(tensor), counted: counted.get(name) }))
    writeFileSync(
      join(place, 'feeds.json'),
      JSON.stringify({ options, external: externalData.map(({ path }) => path), meta }),
    )
    writeFileSync(join(place, 'feeds.bin'), Buffer.concat(inputs.map(([, tensor]) => bytesOf(tensor))))
    return run.call(session, feeds, ...rest)
  }
  return session
}

const output = mkdtempSync(join(tmpdir(), 'omniquant-placement-'))
try {
  await quantizeModel({
    ...{ model: fixture, output, calib: join(fixture, 'calib.txt'), device: 'cuda:0' },
    ...{ samples: 4, seqLen: 64, epochs: 1, accuracyLevel: 0, lmHead: 'float', embedding: 'float' },
    ...JSON.parse(options),
  })
} finally {
  rmSync(output, { recursive: true })
}
