/** @file Hidden states in float16: half the bytes on disk, resumed as they are, and refused where they do not fit. */

import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { keyName, nameOptions } from '../../src/option-mark.ts'
import { checkStates } from '../../src/quant/find/sound-numbers.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import type { QuantizeOptions } from '../../src/quant/terms/options.ts'
import type { QuantizeEvent } from '../../src/quant/terms/report.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { tempDir } from '../helpers/temp-dir.ts'

const LLAMA = resolve(import.meta.dirname, '../../fixtures/tiny-llama')
const SAMPLES = 6
const TOKENS = 32
const HIDDEN = 64
const folder = tempDir()

const run = (name: string, hiddenStates: 'float32' | 'float16', onEvent?: (event: QuantizeEvent) => void) => {
  const options: QuantizeOptions = {
    ...{ model: LLAMA, calib: join(LLAMA, 'calib.txt'), scheme: parseScheme('w4a16g32'), hiddenStates },
    ...{
      samples: SAMPLES,
      seqLen: TOKENS,
      epochs: 2,
      threads: 1,
      augLoss: true,
      accuracyLevel: 0,
      output: join(folder, name, 'q.onnx'),
    },
  }
  return quantizeModel(options, { onEvent })
}

const bytesOf = (name: string): Buffer => readFileSync(join(folder, name, 'q.onnx'))

/** Sizes of the files of hidden states in the work folder of a run, by name. */
function statesOf(name: string): Record<string, number> {
  const work = join(folder, name, '.q.onnx.omniquant')
  const names = readdirSync(work).filter(file => !file.endsWith('.record') && !file.startsWith('lock'))
  return Object.fromEntries(names.map(file => [file, statSync(join(work, file)).size]))
}

test('they take half the room, a run that ended early goes on with them, and learning is nearly the same', async () => {
  const enough = (event: QuantizeEvent) => {
    if (event.type === 'blockDone' && event.report.index === 1) throw new Error('enough')
  }
  await expect(run('stopped', 'float16', enough)).rejects.toThrow('enough')
  const size = SAMPLES * TOKENS * HIDDEN * 2
  expect(statesOf('stopped')).toEqual({ 'float-002.f16': size, 'quantized-002.f16': size })
  await expect(run('stopped', 'float32')).rejects.toMatchObject({ code: 'E_RESUME' })
  await run('stopped', 'float16')
  const narrow = await run('whole', 'float16')
  expect(bytesOf('stopped').equals(bytesOf('whole'))).toBe(true)
  expect(existsSync(join(folder, 'stopped', '.q.onnx.omniquant'))).toBe(false)
  const wide = await run('wide', 'float32')
  wide.blocks.forEach(({ learnedLoss }, i) => {
    expect(Math.abs(narrow.blocks[i]!.learnedLoss! / learnedLoss! - 1)).toBeLessThan(0.05)
    expect(narrow.blocks[i]!.learnedLoss).not.toBe(learnedLoss)
  })
})

test('numbers that float16 cannot hold are one error that names the option', () => {
  const states = Float32Array.of(1, 2, 3, Infinity)
  const error = (dtype: 'float32' | 'float16') => {
    try {
      checkStates(states, 2, 5, 'after block 3', dtype)
    } catch (thrown) {
      const { code, message, hint } = thrown as { code: string; message: string; hint: string }
      return { code, message, hint: nameOptions(hint, keyName) }
    }
    return undefined
  }
  expect(error('float16')).toEqual({
    code: 'E_UNSUPPORTED',
    message: 'the hidden states after block 3 hold Infinity: sample 5, token 1, channel 1',
    hint: 'They are stored as float16, which holds nothing above 65504: leave out `hiddenStates: float16`.',
  })
  expect(error('float32')!.hint).toMatch(/^The model itself computes it/)
})
