/** @file Limits of an evaluation: which models pass which. */

import { expect, test } from 'vitest'
import { type Limits, passedLimits } from '../../src/cli/limits.ts'
import type { Compared, EvaluateReport } from '../../src/quant/evaluate.ts'

const figures = (model: string, perplexity: number): Compared => ({
  ...{ model, sizeBytes: 1, perplexity, perplexityError: 1, meanLoss: 1, meanLossError: 1 },
  ...{ tokensPerSecond: 1, elapsedMs: 1, ratio: perplexity / 10 },
  divergence: { klMean: 0.5, klMeanError: 0, klMedian: 0, kl99: 0, sameTop: 0.9, sameTopError: 0 },
})
const report: EvaluateReport = {
  ...figures('a.onnx', 11),
  others: [figures('b.onnx', 13)],
  against: figures('float.onnx', 100),
  ...{ text: 't.txt', seqLen: 2, stride: 2, windows: 1, tokens: 1 },
}

test.each<[Limits, string | undefined]>([
  [{}, undefined],
  [{ maxPerplexity: 13, maxRatio: 1.3, maxKl: 0.5, minAgreement: 0.9 }, undefined],
  [{ maxPerplexity: 12 }, 'the perplexity of b.onnx is 13.000, above the limit of 12'],
  [{ maxRatio: 1.2 }, 'the ratio of perplexities of b.onnx is 1.3000, above the limit of 1.2'],
  [
    { maxKl: 0.1 },
    'the mean KL divergence of a.onnx is 0.500000, above the limit of 0.1; the mean KL divergence of b.onnx is 0.500000, above the limit of 0.1',
  ],
  [
    { maxPerplexity: 12, minAgreement: 0.95 },
    'the share of same likeliest tokens of a.onnx is 0.9000, below the limit of 0.95; the perplexity of b.onnx is 13.000, ' +
      'above the limit of 12; the share of same likeliest tokens of b.onnx is 0.9000, below the limit of 0.95',
  ],
])('%o', (limits, message) => {
  const passed = passedLimits(report, limits)
  expect([passed?.code, passed?.message]).toEqual([message && 'E_LIMIT', message])
})

test('what is not a number passes every limit', () => {
  const broken = { ...report, others: [], perplexity: NaN, ratio: NaN }
  for (const limits of [{ maxPerplexity: 1e9 }, { maxRatio: 1e9 }])
    expect(passedLimits(broken, limits)?.code).toBe('E_LIMIT')
})
