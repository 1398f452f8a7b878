/** @file Runs are the same only when everything that decides the result is. */

import { appendFileSync, closeSync, openSync, renameSync, rmSync, utimesSync, writeFileSync, writeSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { digestOf, SourceWatch } from '../../src/files/digest.ts'
import type { Device } from '../../src/kernels/device.ts'
import { analyze } from '../../src/quant/find/analyze.ts'
import { signatureOf, signatureOfRun } from '../../src/quant/signature.ts'
import { resolveOptions } from '../../src/quant/terms/resolve-options.ts'
import { tempDir } from '../helpers/temp-dir.ts'

const folder = tempDir()
const model = join(folder, 'model.onnx')

test('content counts, names and times of small files do not', () => {
  writeFileSync(model, 'weights')
  const before = digestOf([model])
  const copy = join(folder, 'copy.onnx')
  writeFileSync(copy, 'weights')
  utimesSync(copy, 1, 1)
  expect(digestOf([copy])).toBe(before)
  writeFileSync(copy, 'weighty')
  expect(digestOf([copy])).not.toBe(before)
  expect(digestOf([join(folder, 'none')])).toBe(digestOf([folder]))
})

test('of a large file a change of size, time, beginning or end shows', () => {
  const large = join(folder, 'large')
  const write = (position: number, text: string) => {
    const file = openSync(large, 'r+')
    writeSync(file, text, position)
    closeSync(file)
    utimesSync(large, 1, 1)
    return digestOf([large])
  }
  writeFileSync(large, '')
  const size = 80 * 2 ** 20
  const digests = [write(size, 'x'), write(0, 'x'), write(size, 'y')]
  utimesSync(large, 2, 2)
  digests.push(digestOf([large]))
  expect(new Set(digests).size).toBe(4)
})

test('another accuracy level is another run', async () => {
  const analysis = await analyze(resolve(import.meta.dirname, '../../fixtures/tiny-llama'), 16)
  const signature = (accuracyLevel: 0 | 4) =>
    signatureOfRun(
      resolveOptions({ model: 'm.onnx', scheme: 'w4a16', accuracyLevel, let: false, threads: 1 }),
      analysis,
    )
  const [exact, fast] = [signature(0), signature(4)]
  expect(fast).toEqual({ ...exact, 'accuracy level': '4' })
  expect(exact['accuracy level']).toBe('0')
})

test('the number of devices makes another run, a list of one does not', async () => {
  const analysis = await analyze(resolve(import.meta.dirname, '../../fixtures/tiny-llama'), 16)
  const signature = (devices?: readonly Device[]) =>
    signatureOfRun(resolveOptions({ model: 'm.onnx', scheme: 'w4a16', devices, threads: 1 }), analysis)
  expect(signature(['cpu', 'cpu'])).toEqual({ ...signature(), 'number of devices': '2' })
  expect(signature(['cpu'])).toEqual(signature())
})

test('settings are named as users know them, and what was not given is left out', () => {
  writeFileSync(model, 'weights')
  const signature = signatureOf([model], undefined, { epochs: 4, alpha: undefined, scheme: 'w4a16' }, 2)
  expect(signature).toMatchObject({ epochs: '4', scheme: 'w4a16', threads: '2', 'calibration text': "the model's own" })
  expect(Object.keys(signature)).not.toContain('alpha')
  expect(signatureOf([model], model, {}, 2)['calibration text']).toMatch(/^model\.onnx \(content [0-9a-f]{16}\)$/)
})

test.each<[string, () => void]>([
  ['written to', () => appendFileSync(model, 'more')],
  ['removed', () => rmSync(model)],
  [
    'replaced by another of the same size and time',
    () => {
      const other = join(folder, 'other')
      writeFileSync(other, 'weights')
      utimesSync(other, 1, 1)
      renameSync(other, model)
    },
  ],
])('a source that is %s during the run is noticed', (_, change) => {
  writeFileSync(model, 'weights')
  utimesSync(model, 1, 1)
  const watch = new SourceWatch([model])
  watch.check()
  change()
  expect(() => watch.check()).toThrow(
    expect.objectContaining({ code: 'E_SOURCE_CHANGED', message: expect.stringContaining(model) as string }),
  )
})
