/** @file Reports as `quantize` and `evaluate` give them, for tests of pages. */

import type { EvaluateResult, QuantizeResult } from '../../src/engine/messages.ts'
import type { BlockReport } from '../../src/quant/terms/report.ts'

const LINEARS = ['self_attn.q_proj', 'self_attn.k_proj', 'mlp.up_proj', 'mlp.down_proj']

const spread = (median: number) => ({
  least: median / 2,
  lower: median * 0.9,
  median,
  upper: median * 1.05,
  greatest: median * 1.1,
})

function blockReport(index: number): BlockReport {
  const linears = LINEARS.map(name => `layers.${index}.${name}`)
  return {
    index,
    linears,
    mappings: ['q_proj -> k_proj'],
    roundedLoss: 0.02 * (index + 1),
    learnedLoss: 0.011 * (index + 1),
    kept: index === 2 ? 'rounded' : 'learned',
    losses: {
      steps: 64,
      window: 16,
      means: Array.from({ length: 32 }, (_, i) => (i === 5 ? NaN : 0.03 / (1 + i / 9))),
    },
    figures: linears.map((name, i) => ({
      name,
      bits: 2,
      group: 64,
      error: { rounded: 0.02 * (i + 1), learned: 0.015 * (i + 1) },
      ...(index !== 2 && { clipping: spread(0.9) }),
    })),
    ...(index !== 2 && { scales: [{ mapping: 'q_proj -> k_proj', scales: spread(1.4) }] }),
    device: 'cpu',
    peakMemoryBytes: 7e8 + 1e7 * index,
    elapsedMs: 61_000 + 1000 * index,
  }
}

/** Learned blocks, one of which was rounded in the end. */
export const quantizeReport = (blocks = 4): QuantizeResult => ({
  model: '/models/wiki-llama/model.onnx',
  version: '0.1.0',
  target: 'cpu',
  output: '/models/out/model.onnx',
  files: ['/models/out/model.onnx'],
  scheme: 'w2a16g64',
  onnxruntime: { least: '1.24', because: ['MatMulNBits of 2 bits'] },
  blocks: Array.from({ length: blocks }, (_, index) => blockReport(index)),
  outer: [
    {
      role: 'lm_head',
      name: 'lm_head',
      bits: 4,
      group: 32,
      vocabSize: 2048,
      hiddenSize: 256,
      roundedLoss: 0.02,
      learnedLoss: 0.01,
    },
  ],
  skipped: [{ node: '/rotary/MatMul', reason: 'its weight is the first operand' }],
  notes: ['sequences are 256 tokens long'],
  storage: {
    bits: 2,
    storedBits: 2,
    quantizedWeights: 3_000_000,
    bitsPerQuantizedWeight: 2.6,
    parameters: 4_000_000,
    bitsPerParameter: 3.6,
  },
  check: { skipped: 'the run needed no text' },
  seed: 0,
  threads: 2,
  copied: ['tokenizer.json'],
  sizeBefore: 16_200_000,
  sizeAfter: 1_790_000,
  elapsedMs: 343_000,
  device: { name: 'cpu', why: 'as asked for' },
})

const measured = (model: string, sizeBytes: number, perplexity: number) => ({
  model,
  sizeBytes,
  bitsPerWeight: sizeBytes / 5e5,
  perplexity,
  perplexityError: 0.4,
  meanLoss: Math.log(perplexity),
  meanLossError: 0.01,
  tokensPerSecond: 900,
  elapsedMs: 4000,
  speed: {
    prefillTokensPerSecond: 2400,
    decodeTokensPerSecond: 130,
    cached: true,
    tokens: 256,
    peakMemoryBytes: 1.2e8,
  },
})

const divergence = (klMean: number) => ({
  klMean,
  klMeanError: klMean / 20,
  klMedian: klMean / 2,
  kl99: klMean * 6,
  sameTop: 0.9,
  sameTopError: 0.01,
})

/** Two models beside a reference. */
export const evaluateReport = (): EvaluateResult => ({
  ...measured('/models/w4/model.onnx', 3_000_000, 30.1),
  ratio: 1.01,
  divergence: divergence(0.01),
  others: [{ ...measured('/models/w2/model.onnx', 1_790_000, 34.2), ratio: 1.15, divergence: divergence(0.12) }],
  against: measured('/models/float/model.onnx', 16_200_000, 29.5),
  text: '/data/eval.txt',
  seqLen: 256,
  stride: 256,
  windows: 40,
  tokens: 10_200,
  device: { name: 'cpu', why: 'as asked for' },
})
