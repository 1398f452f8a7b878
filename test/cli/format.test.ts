import { describe, expect, test } from 'vitest'
import { formatInspection, formatQuantized } from '../../src/cli/format.ts'
import { formatEvaluation } from '../../src/cli/format-evaluation.ts'
import { formatBytes, formatCount, formatDuration } from '../../src/cli/format-numbers.ts'
import { table } from '../../src/cli/table.ts'
import type { Divergence } from '../../src/calibration/measures.ts'
import type { EvaluateReport, Measured, MeasuredSpeed } from '../../src/quant/evaluate.ts'
import type { InspectReport } from '../../src/quant/inspected.ts'
import type { QuantizeReport } from '../../src/quant/terms/report.ts'

describe('numbers', () => {
  test.each([
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1.0 kB'],
    [9940, '9.9 kB'],
    [9960, '10 kB'],
    [999_499, '999 kB'],
    [999_500, '1.0 MB'],
    [13_476_839_424, '13 GB'],
    [2e15, '2000 TB'],
  ])('%d bytes are %s', (bytes, text) => expect(formatBytes(bytes)).toBe(text))

  test.each([
    [7, '7'],
    [1500, '1.5 k'],
    [6_738_415_616, '6.7 G'],
  ])('%d is %s', (count, text) => expect(formatCount(count)).toBe(text))

  test.each([
    [0, '0.0 s'],
    [440, '0.4 s'],
    [9949, '9.9 s'],
    [9960, '10 s'],
    [59_499, '59 s'],
    [59_600, '1 min 00 s'],
    [200_000, '3 min 20 s'],
    [3_599_600, '1 h 00 min'],
    [7_500_000, '2 h 05 min'],
  ])('%d ms are %s', (ms, text) => expect(formatDuration(ms)).toBe(text))
})

test('columns are as wide as their widest cell', () => {
  const rows = [
    ['block', 'name', ''],
    ['1', 'q', 'note'],
    ['10', 'gate_proj'],
  ]
  expect(table(rows, [0])).toBe('block  name\n    1  q          note\n   10  gate_proj')
})

const measured: Measured = {
  model: '/m/a.onnx',
  sizeBytes: 4e6,
  perplexity: 12.3456,
  perplexityError: 0.25,
  meanLoss: 2.5,
  meanLossError: 0.02,
  tokensPerSecond: 2500,
  elapsedMs: 100,
}
const evaluation: EvaluateReport = {
  ...measured,
  text: 't.txt',
  seqLen: 256,
  stride: 256,
  windows: 40,
  tokens: 40 * 255,
  against: { ...measured, model: '/m/b.onnx', sizeBytes: 16e6, perplexity: 12 },
  ratio: 1.0288,
}
const divergence: Divergence = {
  klMean: 0.0123456,
  klMeanError: 0.001,
  klMedian: 4.2e-5,
  kl99: 1.5,
  sameTop: 0.9712,
  sameTopError: 0.0021,
}
const speed: MeasuredSpeed = {
  prefillTokensPerSecond: 3456,
  decodeTokensPerSecond: 123,
  cached: true,
  tokens: 256,
  peakMemoryBytes: 250e6,
}

test('an evaluation', () => {
  expect(`\n${formatEvaluation(evaluation)}\n`).toMatchInlineSnapshot(`
    "
              size     perplexity    ratio   tokens
    a.onnx  4.0 MB  12.346 ±0.250  x1.0288  2.5 k/s
    b.onnx   16 MB  12.000 ±0.250           2.5 k/s

    40 windows of 256 tokens of t.txt
    compared with b.onnx: ratio
    "
  `)
})

test('an evaluation of several models against another, with speeds: a column for all that is known', () => {
  const report: EvaluateReport = {
    ...evaluation,
    model: '/m/w4/model.onnx',
    bitsPerWeight: 4.5,
    divergence,
    speed,
    stride: 64,
    others: [
      {
        ...measured,
        model: '/m/w2/model.onnx',
        perplexityError: NaN,
        ratio: 1.5,
        divergence: { ...divergence, klMean: 3, klMedian: 0, sameTopError: NaN },
        speed: { ...speed, cached: false },
      },
    ],
    against: { ...evaluation.against!, model: '/m/float/model.onnx', bitsPerWeight: 32, speed },
    notes: ['8 threads were asked for'],
  }
  expect(`\n${formatEvaluation(report)}\n`).toMatchInlineSnapshot(`
    "
             size  bits/weight     perplexity    ratio  KL mean  median  99 %       same top  prefill            decode  memory
    w4     4.0 MB         4.50  12.346 ±0.250  x1.0288   0.0123  4.2e-5  1.50  97.12 ±0.21 %  3.5 k/s             123/s  250 MB
    w2     4.0 MB                      12.346  x1.5000     3.00    0.00  1.50        97.12 %  3.5 k/s  123/s (no cache)  250 MB
    float   16 MB        32.00  12.000 ±0.250                                                 3.5 k/s             123/s  250 MB

    40 windows of 256 tokens, each 64 tokens after the last, of t.txt
    compared with float: ratio, KL, same top

    note: 8 threads were asked for
    "
  `)
})

const quantized: QuantizeReport = {
  model: '/m/model.onnx',
  target: 'cpu',
  output: '/out/model.onnx',
  files: ['/out/model.onnx'],
  scheme: 'w4a16g128',
  blocks: [
    {
      index: 0,
      linears: ['q', 'k', 'v'],
      mappings: [],
      roundedLoss: 0.01,
      learnedLoss: 0.008,
      kept: 'learned',
      elapsedMs: 61_000,
    },
    {
      index: 1,
      linears: ['q', 'k', 'v'],
      mappings: [],
      roundedLoss: 0.02,
      learnedLoss: 0.02,
      kept: 'rounded',
      elapsedMs: 900,
      rollbacks: [7],
    },
    { index: 2, linears: ['q', 'k', 'v'], mappings: [], rollbacks: [0, 3], elapsedMs: 900 },
  ],
  outer: [
    {
      role: 'lm_head',
      name: 'lm_head',
      bits: 4,
      group: 32,
      vocabSize: 320,
      hiddenSize: 64,
      roundedLoss: 0.02,
      learnedLoss: 0.0125,
    },
    { role: 'lm_head+embedding', name: 'embed_tokens', bits: 8, group: 32, vocabSize: 320, hiddenSize: 64 },
  ],
  skipped: [
    { node: '/l/1/MatMul', reason: 'its weight is computed by Mul' },
    { node: '/l/2/MatMul', reason: 'its weight is computed by Mul' },
    { node: '/l/3/MatMul', reason: 'its weight is computed by Mul' },
    { node: '/l/4/MatMul', reason: 'its weight is computed by Mul' },
    { node: '/l/0/Gemm', reason: 'its weight is the first operand' },
  ],
  notes: ['calibrated with text the model wrote itself (no --calib)'],
  sizeBefore: 16e6,
  sizeAfter: 4e6,
  elapsedMs: 62_000,
}

test('a quantized model', () => {
  expect(`\n${formatQuantized(quantized, evaluation)}\n`).toMatchInlineSnapshot(`
    "
    model   /m/model.onnx      16 MB
    output  /out/model.onnx    4.0 MB (25 %)
    scheme  w4a16g128 for cpu
    time    1 min 02 s

    block  linears  rounded  learned   change        time
        0        3  1.00e-2  8.00e-3  -20.0 %  1 min 01 s
        1        3  2.00e-2  2.00e-2   +0.0 %       0.9 s  diverged once: rolled back, learning rate halved; kept rounded
        2        3                                  0.9 s  diverged 2 times: rolled back, learning rate halved

    lm_head: lm_head, 64 x 320, 4 bits in groups of 32, loss 2.00e-2 -> 1.25e-2
    lm_head and embedding, stored once: embed_tokens, 64 x 320, 8 bits in groups of 32

    not quantized
      /l/1/MatMul, /l/2/MatMul, /l/3/MatMul and 1 more: its weight is computed by Mul
      /l/0/Gemm: its weight is the first operand

    note: calibrated with text the model wrote itself (no --calib)

                 size     perplexity    ratio   tokens
    quantized  4.0 MB  12.346 ±0.250  x1.0288  2.5 k/s
    float       16 MB  12.000 ±0.250           2.5 k/s

    40 windows of 256 tokens of t.txt
    compared with float: ratio
    "
  `)
})

test('a model rounded to nearest has no losses to show', () => {
  const blocks = [{ index: 0, linears: ['q'], mappings: [], elapsedMs: 1 }]
  const text = formatQuantized({ ...quantized, blocks, outer: [], skipped: [], notes: [] }, undefined)
  expect(`\n${text}\n`).toMatchInlineSnapshot(`
    "
    model   /m/model.onnx      16 MB
    output  /out/model.onnx    4.0 MB (25 %)
    scheme  w4a16g128 for cpu
    time    1 min 02 s

    block  linears   time
        0        1  0.0 s
    "
  `)
})

const inspected: InspectReport = {
  model: '/m/model.onnx',
  files: ['/m/model.onnx', '/m/model.onnx.data'],
  sizeBytes: 16e6,
  producer: '',
  irVersion: 8,
  opsets: [
    { domain: '', version: 18 },
    { domain: 'com.microsoft', version: 1 },
  ],
  nodes: 1107,
  parameters: 4e6,
  types: [{ dtype: 'float32', tensors: 40, elements: 4e6, sizeBytes: 16e6 }],
  unused: [],
  inputs: [
    { name: 'input_ids', dtype: 'int64', shape: ['batch', null] },
    { name: 'past.0.key', dtype: 'float32', shape: ['batch', 4, 'past', 32] },
    { name: 'past.0.value', dtype: 'float32', shape: ['batch', 4, 'past', 32] },
    { name: 'past.1.key', dtype: 'float32', shape: ['batch', 4, 'past', 32] },
    { name: 'past.1.value', dtype: 'float32', shape: ['batch', 4, 'past', 32] },
  ],
  outputs: [{ name: 'logits', dtype: null, shape: null }],
  vocabSize: 2048,
  blocks: [
    {
      index: 0,
      linears: [
        { name: 'layers.0.q_proj', inFeatures: 256, outFeatures: 256, dtype: 'float32', sizeBytes: 262_144 },
        {
          name: 'layers.0.down_proj',
          inFeatures: 704,
          outFeatures: 256,
          dtype: 'float16',
          sizeBytes: 360_448,
          note: 'the last group of each output has 64 weights',
        },
      ],
      mappings: [
        { name: 'norm -> q_proj', size: 256, shift: true },
        { name: 'up -> down', reason: 'an activation is between them' },
      ],
    },
  ],
  outer: [
    {
      role: 'embedding' as const,
      name: 'embed_tokens',
      vocabSize: 2048,
      hiddenSize: 256,
      dtype: 'float32' as const,
      sizeBytes: 2_097_152,
      tied: true,
    },
    {
      role: 'lm_head' as const,
      name: 'lm_head',
      vocabSize: 2048,
      hiddenSize: 256,
      dtype: 'float32' as const,
      sizeBytes: 2_097_152,
      tied: true,
    },
  ],
  skipped: [{ node: '/other/MatMul', reason: 'it is not in a block' }],
  estimates: [{ scheme: 'w4a16g128', sizeBytes: 6e6 }],
}

test('an inspected model', () => {
  expect(`\n${formatInspection(inspected)}\n`).toMatchInlineSnapshot(`
    "
    model       /m/model.onnx
    data        /m/model.onnx.data
    size        16 MB
    producer    unknown
    format      IR 8, opset ai.onnx 18, com.microsoft 1
    nodes       1107
    parameters  4.0 M
    stored as   float32 16 MB
    vocabulary  2048

    inputs   input_ids          int64    [batch, ?]
             past.{0..1}.key    float32  [batch, 4, past, 32]
             past.{0..1}.value  float32  [batch, 4, past, 32]
    outputs  logits             ?        ?

    block  linear                  K x N  stored
        0  layers.0.q_proj     256 x 256  float32
           layers.0.down_proj  704 x 256  float16  the last group of each output has 64 weights

    block  transformation  scales
        0  norm -> q_proj     256  with shift
           up -> down              not possible: an activation is between them

    outside the blocks, float unless asked for (--embedding, --lm-head)
      embedding  embed_tokens  256 x 2048  float32  2.1 MB  tied: one tensor
      lm_head    lm_head       256 x 2048  float32  2.1 MB  tied: one tensor

    not quantized
      /other/MatMul: it is not in a block

    estimated output
      w4a16g128  6.0 MB  38 %
    "
  `)
})

test('blocks of the same make that follow each other are shown once', () => {
  const block = (index: number, inFeatures: number) => ({
    index,
    linears: [{ name: `l.${index}.q`, inFeatures, outFeatures: 8, dtype: 'float32' as const, sizeBytes: 1 }],
    mappings: [{ name: `norm -> l.${index}.q`, size: inFeatures, shift: false }],
  })
  const blocks = [block(0, 64), block(1, 64), block(2, 32), block(3, 64), block(4, 64), block(5, 64)]
  const text = formatInspection({ ...inspected, blocks })
  expect(text.split('\n').filter(line => line.includes('.q'))).toEqual([
    '  0-1  l.{0..1}.q  64 x 8  float32',
    '    2  l.2.q       32 x 8  float32',
    '  3-5  l.{3..5}.q  64 x 8  float32',
    '  0-1  norm -> l.{0..1}.q      64',
    '    2  norm -> l.2.q           32',
    '  3-5  norm -> l.{3..5}.q      64',
  ])
})

test('an inspected model that cannot be quantized', () => {
  const problem = { code: 'E_NO_BLOCKS', message: 'no decoder blocks found' }
  const text = formatInspection({ ...inspected, blocks: [], skipped: [], estimates: [], problem })
  expect(text.split('\n\n').at(-1)).toBe('cannot be quantized (E_NO_BLOCKS): no decoder blocks found')
  expect(text).not.toContain('estimated')
})
test('weights that are stored for nothing are in one row', () => {
  const weight = (name: string) => ({ name, dtype: 'float32' as const, shape: [64, 64], sizeBytes: 16384 })
  const row = (names: readonly string[]) =>
    formatInspection({ ...inspected, unused: names.map(weight) })
      .split('\n')
      .find(line => line.startsWith('unused'))
  expect(row([])).toBeUndefined()
  expect(row(['a'])).toBe('unused      1 weight, 16 kB: no path leads to the logits from a')
  expect(row(['a', 'b', 'c', 'd', 'e'])).toBe(
    'unused      5 weights, 82 kB: no path leads to the logits from a, b, c and 2 more',
  )
})
