/** @file Quantizes a toy decoder with a few samples, for tests of layers that no real file at hand has. */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import { type QuantizeOptions } from '../../src/quant/terms/options.ts'
import type { QuantizeReport } from '../../src/quant/terms/report.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { PLAIN } from './method.ts'
import { testFolder } from './test-folder.ts'
import { toyTokens } from './toy-decoder.ts'

/** Rounds; at w4a4 learns transformations. The output lies in a folder that is removed after the test. */
export function quantizeToy(
  model: string,
  scheme: string,
  options: Partial<QuantizeOptions> = {},
): Promise<QuantizeReport> {
  const calib = join(testFolder(), 'calib.jsonl')
  writeFileSync(calib, toyTokens(4, 13))
  return quantizeModel({
    ...{ calib, model, output: testFolder(), scheme: parseScheme(scheme), lwc: false, let: scheme === 'w4a4' },
    ...PLAIN,
    ...{ epochs: 2, samples: 4, seqLen: 12, seed: 0, learningRate: 1e-2, schedule: 'cosine' },
    ...options,
  })
}
