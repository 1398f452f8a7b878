/** @file External-data entries: followed ones and refused ones. */

import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { loadModel } from '../../../src/graph/onnx-file/load.ts'
import { onnx } from '../../../src/graph/onnx-file/onnx-proto.ts'
import { isFileRange } from '../../../src/files/file-range.ts'
import { readNumbers } from '../../../src/graph/tensor.ts'
import { floatBytes, linearModel, modelBytes } from '../../helpers/onnx-files.ts'
import { tempDir } from '../../helpers/temp-dir.ts'

const base = tempDir()
const folder = join(base, 'models')
const path = join(folder, 'model.onnx')

beforeAll(() => {
  mkdirSync(join(folder, 'sub'), { recursive: true })
  mkdirSync(join(base, 'elsewhere'))
  const data = Buffer.concat([new Uint8Array(100), floatBytes(512)])
  for (const name of ['w.data', 'sub/w.data', '../outside.data', '../elsewhere/w.data']) {
    writeFileSync(join(folder, name), data)
  }
  writeFileSync(join(folder, 'short.data'), data)
  truncateSync(join(folder, 'short.data'), 2000)
  symlinkSync(join(base, 'outside.data'), join(folder, 'link-out.data'))
  symlinkSync(join(folder, 'sub/w.data'), join(folder, 'link-in.data'))
  symlinkSync('/dev/zero', join(folder, 'endless.data'))
  execFileSync('mkfifo', [join(folder, 'pipe.data')])
})

function write(entries: Record<string, string>, file = path): string {
  const model = linearModel()
  const w = model.graph!.initializer![0]!
  delete w.rawData
  w.dataLocation = onnx.TensorProto.DataLocation.EXTERNAL
  w.externalData = Object.entries(entries).map(([key, value]) => ({ key, value }))
  writeFileSync(file, modelBytes(model))
  return file
}
const firstWeights = (file: string) => {
  const { tensor } = loadModel(file).graph.initializers[0]!
  if (!isFileRange(tensor!.data)) throw new Error('was read')
  return [tensor!.data.file, readNumbers(tensor!).slice(0, 3)]
}

describe('external data', () => {
  it.each([
    ['with offset and length', { location: 'w.data', offset: '100', length: '2048' }, 'w.data'],
    ['without length', { location: './w.data', offset: '100' }, 'w.data'],
    ['in a folder below', { location: 'sub/w.data', offset: '100' }, 'sub/w.data'],
    ['by a way out and in', { location: 'sub/../w.data', offset: '100' }, 'w.data'],
    ['through a link that stays inside', { location: 'link-in.data', offset: '100' }, 'sub/w.data'],
  ])('is found %s', (_, entries, file) => {
    expect(firstWeights(write(entries))).toEqual([join(folder, file), [0, 1, 2]])
  })

  it('without offset begins at 0', () => {
    expect(firstWeights(write({ location: 'w.data' }))[1]).toEqual([0, 0, 0])
  })

  it('beside the file that a linked model leads to is found, as in the Hugging Face cache', () => {
    const snapshot = join(base, 'snapshot')
    const blobs = join(base, 'blobs')
    for (const each of [snapshot, blobs]) mkdirSync(each)
    write({ location: 'model.data', offset: '100' }, join(blobs, '1f2e'))
    writeFileSync(join(blobs, '3d4c'), readFileSync(join(folder, 'w.data')))
    symlinkSync('../blobs/1f2e', join(snapshot, 'model.onnx'))
    symlinkSync('../blobs/3d4c', join(snapshot, 'model.data'))
    expect(firstWeights(snapshot)).toEqual([join(blobs, '3d4c'), [0, 1, 2]])
  })

  it.each([
    ['no location', {}, /not a file name/],
    ['an absolute path', { location: join(base, 'models/w.data') }, /absolute/],
    ['an absolute Windows path', { location: 'C:\\w.data' }, /absolute/],
    ['a way out', { location: '../outside.data' }, /outside the folder/],
    ['a way out through a folder', { location: 'sub/../../elsewhere/w.data' }, /outside the folder/],
    ['a link that leads out', { location: 'link-out.data' }, /link that leads out/],
    ['no such file', { location: 'gone.data' }, /gone\.data cannot be read/],
    ['a folder', { location: 'sub' }, /cannot be read/],
    ['a link to what never ends', { location: 'endless.data' }, /cannot be read: not a file/],
    ['a pipe', { location: 'pipe.data' }, /cannot be read: not a file/],
    ['the model itself', { location: 'model.onnx' }, /the model file itself/],
    ['a name longer than paths are', { location: 'x'.repeat(9000) }, /x{4096}", which is not a file name/],
    ['a NUL', { location: 'w\0.data' }, /not a file name/],
    ['a file too short', { location: 'short.data', offset: '100' }, /short\.data has only 2000/],
    ['an offset past the end', { location: 'w.data', offset: '9007199254740993' }, /offset "9007199254740993"/],
    ['an offset of no number', { location: 'w.data', offset: 'NaN' }, /offset "NaN"/],
    ['an offset in other digits', { location: 'w.data', offset: '0x10' }, /offset "0x10"/],
    ['a negative offset', { location: 'w.data', offset: '-1' }, /offset "-1"/],
    ["a length that is not the tensor's", { location: 'w.data', length: '100' }, /length of 100 bytes.*2048/],
  ])('is refused: %s', (_, entries, message) => {
    const file = write(entries)
    expect(() => loadModel(file)).toThrow(
      expect.objectContaining({
        code: 'E_EXTERNAL_DATA',
        message: expect.stringMatching(new RegExp(`initializer "w".*${message.source}`)),
        hint: expect.stringMatching(/./),
      }),
    )
  })
})
