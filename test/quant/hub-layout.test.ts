/** @file The layout of transformers.js, from end to end: X/onnx/model.onnx with its tokenizer in X. */

import { copyFileSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { testFolder } from '../helpers/test-folder.ts'

const FIXTURE = resolve(import.meta.dirname, '../../fixtures/tiny-llama')

test('calibrated with text by the tokenizer above; the result has the name and place that transformers.js looks for', async () => {
  const [from, to] = [testFolder(), testFolder()]
  mkdirSync(join(from, 'onnx'))
  copyFileSync(join(FIXTURE, 'model.onnx'), join(from, 'onnx/model.onnx'))
  for (const name of ['tokenizer.json', 'tokenizer_config.json', 'config.json']) {
    if (readdirSync(FIXTURE).includes(name)) copyFileSync(join(FIXTURE, name), join(from, name))
  }
  const report = await quantizeModel({
    ...{ model: from, output: to, scheme: parseScheme('w4a16g32'), lwc: true, calib: join(FIXTURE, 'calib.txt') },
    ...{ samples: 1, seqLen: 16, epochs: 1, seed: 0, learningRate: 1e-2, schedule: 'constant' as const },
    ...{ accuracyLevel: 0 as const },
  })
  expect(report.output).toBe(join(to, 'onnx/model_q4.onnx'))
  expect(report.notes.join()).not.toContain('wrote itself')
  expect(report.notes).toContain(`transformers.js loads onnx/model_q4.onnx from ${to} with { dtype: 'q4' }`)
  expect(readdirSync(join(to, 'onnx'))).toEqual(['model_q4.onnx'])
  expect(readdirSync(to).sort()).toEqual(['onnx', ...readdirSync(from).filter(name => name !== 'onnx')].sort())
})

test.each(['a folder that is a link', 'a folder of links, as in the cache of Hugging Face'])('%s', async kind => {
  const [real, other] = [testFolder(), testFolder()]
  const folder = kind.startsWith('a folder of links') ? other : join(other, 'link')
  if (folder === other) {
    for (const [name, blob] of Object.entries({ 'model.onnx': 'b1', 'config.json': 'b2' })) {
      copyFileSync(join(FIXTURE, name), join(real, blob))
      symlinkSync(join(real, blob), join(folder, name))
    }
  } else {
    copyFileSync(join(FIXTURE, 'model.onnx'), join(real, 'model.onnx'))
    symlinkSync(real, folder)
  }
  const report = await quantizeModel({
    ...{ model: folder, output: testFolder(), scheme: parseScheme('w4a16g32'), lwc: true },
    ...{ samples: 1, seqLen: 8, epochs: 1, seed: 0, learningRate: 1e-2, schedule: 'constant' as const },
    ...{ accuracyLevel: 0 as const },
  })
  expect(report.blocks).toHaveLength(3)
})
