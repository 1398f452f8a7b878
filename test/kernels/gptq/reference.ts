/** @file GPTQ as its authors wrote it down (arXiv 2210.17323, algorithm 1): in float64, with the inverse of the Hessian. */

import { groupsOf, qMax, type QParams, roundHalfEven, type WeightQuantizer } from '../../../src/kernels/qparams.ts'
import { noise } from '../weights.ts'

/** Mean of x x^T over correlated inputs of very different size, plus a share of the mean of its diagonal. */
export function hessianOf(K: number, seed: number, damping = 0): Float32Array {
  const tokens = 2 * K
  const common = noise(tokens * 3, seed + 1)
  const x = noise(tokens * K, seed).map((value, i) => {
    const [token, channel] = [Math.floor(i / K), i % K]
    return (channel % 7 === 3 ? 4 : 1) * (0.5 * value + common[3 * token + (channel % 3)]!)
  })
  const hessian = new Float64Array(K * K)
  for (let t = 0; t < tokens; t++)
    for (let i = 0; i < K; i++)
      for (let j = 0; j < K; j++) hessian[i * K + j]! += (x[t * K + i]! * x[t * K + j]!) / tokens
  let trace = 0
  for (let i = 0; i < K; i++) trace += hessian[i * (K + 1)]!
  for (let i = 0; i < K; i++) hessian[i * (K + 1)]! += (damping * trace) / K
  return Float32Array.from(hessian)
}

/** Inverse of a symmetric positive definite matrix by Gauss and Jordan. */
function inverse(matrix: Float64Array, n: number): Float64Array {
  const a = Float64Array.from(matrix)
  const b = new Float64Array(n * n)
  for (let i = 0; i < n; i++) b[i * (n + 1)] = 1
  for (let p = 0; p < n; p++) {
    const pivot = a[p * (n + 1)]!
    for (let j = 0; j < n; j++) {
      a[p * n + j]! /= pivot
      b[p * n + j]! /= pivot
    }
    for (let i = 0; i < n; i++) {
      if (i === p) continue
      const factor = a[i * n + p]!
      for (let j = 0; j < n; j++) {
        a[i * n + j]! -= factor * a[p * n + j]!
        b[i * n + j]! -= factor * b[p * n + j]!
      }
    }
  }
  return b
}

/** Codes of w [K, N] under given scales, channels by falling diagonal, damping 0.01. */
export function referenceGptq(
  w: Float32Array,
  K: number,
  N: number,
  { scale, zeroPoint }: QParams,
  { bits, group }: WeightQuantizer,
  hessian: Float32Array,
): Uint8Array {
  const { size } = groupsOf(K, group)
  const damped = Float64Array.from(hessian)
  let trace = 0
  for (let i = 0; i < K; i++) trace += damped[i * (K + 1)]!
  for (let i = 0; i < K; i++) damped[i * (K + 1)]! += (0.01 * trace) / K
  const order = [...Array(K).keys()].sort((a, b) => hessian[b * (K + 1)]! - hessian[a * (K + 1)]! || a - b)
  const permuted = Float64Array.from(
    { length: K * K },
    (_, i) => damped[order[Math.floor(i / K)]! * K + order[i % K]!]!,
  )
  let left = inverse(permuted, K)
  const weights = Float64Array.from({ length: K * N }, (_, i) => w[order[Math.floor(i / N)]! * N + (i % N)]!)
  const codes = new Uint8Array(K * N)
  for (let p = 0; p < K; p++) {
    const channel = order[p]!
    const first = Math.floor(channel / size) * N
    for (let n = 0; n < N; n++) {
      const step = scale[first + n]!
      const zero = zeroPoint[first + n]!
      const code = Math.min(Math.max(roundHalfEven(weights[p * N + n]! / step) + zero, 0), qMax(bits))
      codes[channel * N + n] = code
      const error = (weights[p * N + n]! - (code - zero) * step) / left[p * (K + 1)]!
      for (let i = p + 1; i < K; i++) weights[i * N + n]! -= error * left[i * K + p]!
    }
    // Channel p leaves the inverse by one step of Gauss's elimination (eq. 3).
    const next = Float64Array.from(left)
    for (let i = p + 1; i < K; i++)
      for (let j = p + 1; j < K; j++) next[i * K + j]! -= (left[i * K + p]! * left[p * K + j]!) / left[p * (K + 1)]!
    left = next
  }
  return codes
}
