/** @file GPTQ as programs: the codes of the textbook in float64, nearer to the output than rounding, whatever the sizes. */

import { afterAll, describe, expect, test } from 'vitest'
import { factorHessian, gptqCodes, gptqSession } from '../../../src/kernels/gptq/gptq.ts'
import { Programs } from '../../../src/kernels/programs.ts'
import { affineQParams, type WeightQuantizer, weightRange } from '../../../src/kernels/qparams.ts'
import { dequantize, quantizeWeight } from '../../../src/kernels/weights.ts'
import { noise } from '../weights.ts'
import { hessianOf, referenceGptq } from './reference.ts'

const PROGRAMS = new Programs(gptqSession({ threads: 1 }))

afterAll(() => PROGRAMS.release())

/** Sum over columns of e^T hessian e, in float64. */
function outputError(quantized: Float32Array, w: Float32Array, K: number, N: number, hessian: Float32Array): number {
  let sum = 0
  for (let n = 0; n < N; n++) {
    const e = Float64Array.from({ length: K }, (_, k) => quantized[k * N + n]! - w[k * N + n]!)
    for (let i = 0; i < K; i++) for (let j = 0; j < K; j++) sum += e[i]! * hessian[i * K + j]! * e[j]!
  }
  return sum
}

async function run(w: Float32Array, K: number, N: number, quantizer: WeightQuantizer, hessian: Float32Array) {
  const { scale, zeroPoint } = affineQParams(weightRange(w, K, N, quantizer.group), quantizer)
  const factor = await factorHessian(hessian, K, 'test', PROGRAMS)
  const found = await gptqCodes({ w, N, quantizer, scale, zeroPoint: Float32Array.from(zeroPoint) }, factor, PROGRAMS)
  return { scale, zeroPoint, ...found }
}

describe('codes', () => {
  test.each<[number, number, number, number, Partial<WeightQuantizer>]>([
    [2, 40, 9, 32, {}], // one panel that is not full, a short last group
    [4, 40, 9, 40, { symmetric: true }],
    [3, 160, 5, 32, {}], // two panels
    [2, 256, 3, 64, { scaleDtype: 'float16' }],
  ])('%i bits of [%i, %i], groups of %i, %o', async (bits, K, N, group, more) => {
    const quantizer: WeightQuantizer = { bits, group, symmetric: false, scaleDtype: 'float32', ...more }
    const w = noise(K * N, 3)
    const hessian = hessianOf(K, 4)
    const { scale, zeroPoint, offset, quantized, loss } = await run(w, K, N, quantizer, hessian)
    const reference = referenceGptq(w, K, N, { scale, zeroPoint }, quantizer, hessian)
    // Codes as folding makes them: round(w / scale + offset) + zero point.
    const codes = Uint8Array.from(offset, (value, i) => {
      const at = Math.floor(Math.floor(i / N) / group) * N + (i % N)
      const steps = Math.round(Math.fround(Math.fround(w[i]! / scale[at]!) + value))
      return Math.min(Math.max(steps + zeroPoint[at]!, 0), 2 ** bits - 1)
    })
    const different = codes.filter((code, i) => code !== reference[i]).length
    // A tie that float32 breaks the other way may change the codes after it.
    expect(different / codes.length).toBeLessThan(0.01)
    const stands = dequantize({ codes, scale, zeroPoint }, K, N, group)
    for (const [i, value] of quantized.entries()) expect(value).toBeCloseTo(stands[i]!, 5)
    const damped = Float32Array.from(hessian)
    const mean = Array.from({ length: K }, (_, i) => hessian[i * (K + 1)]!).reduce((sum, value) => sum + value, 0) / K
    for (let i = 0; i < K; i++) damped[i * (K + 1)]! += 0.01 * mean
    expect(loss.reduce((sum, value) => sum + value, 0) / outputError(stands, w, K, N, damped)).toBeCloseTo(1, 3)
    const nearest = dequantize(quantizeWeight(w, K, N, quantizer), K, N, group)
    expect(outputError(stands, w, K, N, hessian)).toBeLessThan(0.6 * outputError(nearest, w, K, N, hessian))
  })

  test('inputs that were never seen leave a weight rounded to nearest', async () => {
    const [K, N] = [32, 6]
    const quantizer: WeightQuantizer = { bits: 4, group: 32, symmetric: false, scaleDtype: 'float32' }
    const w = noise(K * N, 7)
    const { quantized } = await run(w, K, N, quantizer, new Float32Array(K * K))
    const nearest = dequantize(quantizeWeight(w, K, N, quantizer), K, N, 32)
    for (const [i, value] of quantized.entries()) expect(value).toBeCloseTo(nearest[i]!, 6)
  })

  test('a Hessian that is no number is refused by name', async () => {
    const hessian = hessianOf(16, 1).fill(NaN, 5, 6)
    await expect(factorHessian(hessian, 16, 'layers.0.up', PROGRAMS)).rejects.toThrow(/layers\.0\.up/)
  })
})
