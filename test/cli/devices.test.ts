/** @file `--devices`: a run on two devices is repeatable, is another run than on one, and refuses what is no device. */

import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { runCli } from '../helpers/run-cli.ts'
import { tempDir } from '../helpers/temp-dir.ts'

const FIXTURE = resolve(import.meta.dirname, '../../fixtures/tiny-llama')
const folder = tempDir()

const quantize = (output: string, ...flags: string[]) =>
  runCli(
    ...['quantize', FIXTURE, '--w4a16', '--calib', join(FIXTURE, 'calib.txt'), '--samples', '4', '--seq-len', '32'],
    ...[
      '--epochs',
      '1',
      '--threads',
      '1',
      '--ignore',
      'layers.1',
      '--ignore',
      'layers.2',
      '-o',
      join(folder, output),
      ...flags,
    ],
  )

test('two devices give the same bytes again', async () => {
  for (const output of ['a.onnx', 'b.onnx']) {
    const { exitCode, stderr } = await quantize(output, '--devices', 'cpu,cpu')
    expect(exitCode, stderr).toBe(0)
  }
  expect(readFileSync(join(folder, 'a.onnx')).equals(readFileSync(join(folder, 'b.onnx')))).toBe(true)
  await quantize('one.onnx', '--devices', 'cpu')
  expect(readFileSync(join(folder, 'a.onnx')).equals(readFileSync(join(folder, 'one.onnx')))).toBe(false)
})

test.each([
  [['--devices', 'cpu,gpu'], '--devices takes a list of devices: cpu, cuda, cuda:1 (or another number), webgpu'],
  [['--devices', 'auto'], '--devices takes a list of devices'],
])('%j is refused', async (flags, message) => {
  const { exitCode, stderr } = await quantize('c.onnx', ...flags)
  expect(stderr).toContain(message)
  expect(exitCode).toBe(2)
})
