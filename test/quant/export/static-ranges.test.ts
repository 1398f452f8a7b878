/** @file Linears behind fixed ranges compute what quantizing and back in plain TypeScript gives, whatever onnxruntime fuses. */

import { expect, test } from 'vitest'
import { tensorOf } from '../../../src/graph/tensor.ts'
import { packDequantize } from '../../../src/kernels/pack/dequantize-linear.ts'
import { packPlanes } from '../../../src/kernels/pack/planes.ts'
import type { WeightQuantizer } from '../../../src/kernels/qparams.ts'
import { type FixedQuantizer, fakeQuantizeRange, rangeSteps } from '../../../src/kernels/static-range.ts'
import { dequantize, quantizeWeight } from '../../../src/kernels/weights.ts'
import { exportLinears } from '../../../src/quant/export/export-linears.ts'
import type { ExportOptions } from '../../../src/quant/terms/options.ts'
import { tempDir } from '../../helpers/temp-dir.ts'
import { noise } from '../../kernels/weights.ts'
import { relativeError, runModel, UserGraph } from './user-graph.ts'

const folder = tempDir()
const [ROWS, K, N] = [16, 24, 40]

const quantizerOf = (bits: number, lo: number, hi: number): FixedQuantizer => ({
  ...{ kind: 'static', bits },
  ...rangeSteps({ lo, hi }, { bits }),
})

/** x W + b over [rows, columns], in float64 sums. */
function product(x: Float32Array, w: Float32Array, bias: Float32Array): Float32Array {
  const columns = bias.length
  const inner = w.length / columns
  return Float32Array.from({ length: (x.length / inner) * columns }, (_, i) => {
    const [m, n] = [Math.floor(i / columns), i % columns]
    let sum = bias[n]!
    for (let k = 0; k < inner; k++) sum += x[m * inner + k]! * w[k * columns + n]!
    return sum
  })
}

/** A weight whose columns differ in size a hundredfold, in 8 bits with a scale for each column. */
function weightOf(rows: number, columns: number, seed: number, format: ExportOptions['format']) {
  const how: WeightQuantizer = { bits: 8, group: rows, symmetric: true, scaleDtype: 'float32' }
  const w = noise(rows * columns, seed).map((x, i) => x * 100 ** ((i % columns) / columns))
  const codes = { ...quantizeWeight(w, rows, columns, how), ...how, K: rows, N: columns }
  const packed = format === 'qdq' ? packDequantize(codes) : packPlanes(codes)
  return { packed, w: dequantize(codes, rows, columns, rows) }
}

// onnxruntime 1.30 gives a Gemm between a DequantizeLinear and a QuantizeLinear other weights where they are float.
test.each([
  ['integer', 8],
  ['portable', 8],
  ['portable', 16],
  ['qdq', 8],
  ['qdq', 16],
] as const)('%s: Gemm, Relu, Gemm with %d-bit activations', async (format, bits) => {
  const user = new UserGraph({ opset: bits > 8 && format === 'qdq' ? 21 : 13 })
  const x = user.input('x', ['rows', K])
  const biases = [noise(N, 3), noise(K, 4)]
  const [first, second] = [weightOf(K, N, 1, format), weightOf(N, K, 2, format)]
  const gemm = (input: typeof x, rows: number, columns: number, i: number) =>
    user.op(
      'Gemm',
      [
        input,
        user.constant(`w${i}`, [rows, columns], new Float32Array(rows * columns)),
        user.constant(`b${i}`, [columns], biases[i]!),
      ],
      `fc${i}`,
    )
  const inner = gemm(x, K, N, 0)
  const outer = gemm(user.op('Relu', [inner], 'relu'), N, K, 1)
  user.output(outer, 'y')
  const input = quantizerOf(bits, -3, 3)
  const middle = quantizerOf(bits, 0, 200)
  exportLinears(
    user.model,
    [
      { origin: inner.producer!, packed: first.packed, activation: input, inFeatures: K, outFeatures: N },
      { origin: outer.producer!, packed: second.packed, activation: middle, inFeatures: N, outFeatures: K },
    ],
    { accuracyLevel: 0, format },
  )
  expect(user.count('QuantizeLinear')).toBe(format === 'portable' ? 0 : 2)
  const numbers = noise(ROWS * K, 7).map(value => 4 * value)
  const { y } = await runModel(user.model, { x: tensorOf('float32', [ROWS, K], numbers) }, folder)
  const hidden = product(fakeQuantizeRange(numbers, input), first.w, biases[0]!).map(value => Math.max(value, 0))
  const expected = product(fakeQuantizeRange(hidden, middle), second.w, biases[1]!)
  expect(relativeError(y!, expected)).toBeLessThan(1e-5)
})
