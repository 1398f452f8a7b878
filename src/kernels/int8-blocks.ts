/**
 * @file The rounding of activations inside onnxruntime's MatMulNBits at accuracy_level 4, as a definition in plain TypeScript and as a
 * graph for training programs. The exported model has no nodes for it: the kernel does it.
 */

import { customVjp } from '../autodiff/custom-vjp.ts'
import { padded, reshaped } from '../autodiff/fragments.ts'
import type { Builder } from '../graph/builder.ts'
import type { Value } from '../graph/ir.ts'
import { staticShape } from '../graph/shape.ts'
import { elementCount } from '../graph/tensor.ts'
import { roundHalfEven } from './qparams.ts'
import { roundSte } from './round-ste.ts'

/** Greatest code; the least is its negative. */
const STEPS = 127

/** Blocks whose greatest number is below this become zero. 127 divided by it is a normal float32 number. */
const LEAST = 2 ** -118

/**
 * Rounds x, rows of K numbers, to 8 bits in blocks of `block` neighbours; the last block of a row may be shorter.
 * With m = max |x| of a block: code = round(x * (127 / m)), y = code * (m / 127). Rounding is half to even, and every operation is
 * rounded to float32. onnxruntime 1.30 on x86 computes the same codes, also for numbers next to the middle of two codes
 * (test/kernels/int8-blocks.test.ts); x / (m / 127) would give others there.
 */
export function fakeInt8Blocks(x: Float32Array, K: number, block: number): Float32Array {
  const { fround } = Math
  const y = new Float32Array(x.length)
  for (let row = 0; row < x.length; row += K) {
    for (let first = 0; first < K; first += block) {
      const numbers = x.subarray(row + first, row + Math.min(first + block, K))
      const most = Math.max(
        LEAST,
        numbers.reduce((a, b) => Math.max(a, Math.abs(b)), 0),
      )
      const [inverse, scale] = [fround(STEPS / most), fround(most / STEPS)]
      numbers.forEach((value, i) => (y[row + first + i] = roundHalfEven(fround(value * inverse)) * scale))
    }
  }
  return y
}

/**
 * Training graph of `fakeInt8Blocks`: x [.., K] -> [.., K], float32, or float64 (then nothing is rounded to float32).
 *
 * The gradient is straight-through, dx = dy. No number of a block is clipped, so y - x is a rounding error with mean zero. Its
 * dependence on the block's greatest number, which `emitFakeQuantizeTokens` follows, is left out: it is a hundredth of a step there,
 * and following it costs three times the forward pass. [512, 1024] in blocks of 32, forward and backward, 1 thread: 1.4 ms; with it
 * 5.1 ms.
 */
export function emitInt8Blocks(g: Builder, x: Value, block: number): Value {
  const shape = staticShape(x)
  const K = shape.at(-1)!
  const rows = elementCount(shape) / K
  const blocks = Math.ceil(K / block)
  const flat = reshaped(g, x, [rows, K])
  const cut = g.reshape(padded(g, flat, [0, 0, 0, blocks * block - K]), [rows * blocks, block])
  const number = (value: number) => g.scalar(value, x.dtype)
  const most = g.op('Max', [g.reduceLast('ReduceMax', g.op('Abs', [cut])), number(LEAST)])
  const steps = g.mul(cut, g.div(number(STEPS), most))
  const y = g.mul(roundSte(g, steps), g.div(most, number(STEPS)))
  for (const { producer } of [steps, y]) customVjp(producer!, (_g, _node, [dy]) => [dy])
  const whole = g.reshape(y, [rows, blocks * block])
  return reshaped(g, blocks * block === K ? whole : g.slice(whole, 1, 0, K), shape)
}
