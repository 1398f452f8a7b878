/** @file float16 and bfloat16 as numbers: bit patterns to float32 and back, and reading and making any float tensor. Knows no graph. */

import { QuantError } from '../errors.ts'
import { type Conversion, isFileRange } from '../files/file-range.ts'
import type { FloatType } from '../graph/dtype.ts'
import { readElements, type Tensor, tensorOf } from '../graph/tensor.ts'

/** Least positive float16, least normal one, and greatest one. */
export const FLOAT16_LEAST: number = 2 ** -24

export const FLOAT16_MIN_NORMAL: number = 2 ** -14

export const FLOAT16_MAX: number = 65504

const FLOAT32_INFINITY = 0x7f800000

// 2^16: everything from here on is infinite in float16 (65520 up to here rounds to it, in the carry of the normal case).
const OVERFLOW = 0x47800000

// 2^-14: below lie the subnormal float16 numbers, multiples of 2^-24.
const NORMAL = 0x38800000

// Moves float32's exponent bias (127) to float16's (15); `>>> 0` would lose the sign, additions wrap by `| 0`.
const REBIAS = (15 - 127) << 23

// Adding and subtracting this leaves a double rounded to an integer, half to even.
const DOUBLE_ROUNDING = 1.5 * 2 ** 52

/** Nearest float16 of float32 bits, half to even. */
function narrow(bits: number): number {
  const sign = (bits >>> 16) & 0x8000
  const magnitude = bits & 0x7fffffff
  if (magnitude >= OVERFLOW) {
    // A NaN keeps its leading payload bits and becomes quiet, as hardware conversions do.
    return magnitude > FLOAT32_INFINITY ? sign | 0x7e00 | ((magnitude >>> 13) & 0x3ff) : sign | 0x7c00
  }
  if (magnitude < NORMAL) {
    // value * 2^24 = mantissa * 2^(exponent - 126): exact in a double, whose own rounding does the rest. Subnormal float32
    // numbers (exponent 0) are far below half of 2^-24.
    const exponent = magnitude >>> 23
    const mantissa = exponent === 0 ? 0 : 0x800000 | (magnitude & 0x7fffff)
    return sign | (mantissa * 2 ** (exponent - 126) + DOUBLE_ROUNDING - DOUBLE_ROUNDING)
  }
  // Just under half a unit, and one more where the kept part is odd: ties go to even. A carry runs into the exponent.
  return sign | ((magnitude + REBIAS + 0xfff + ((magnitude >>> 13) & 1)) >>> 13)
}

/** float32 -> float16 bit patterns, half to even; too large becomes infinite, too small subnormal or zero, NaN stays NaN. */
export function toFloat16Bits(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  const result = new Uint16Array(values.length)
  for (let i = 0; i < bits.length; i++) result[i] = narrow(bits[i]!)
  return result
}

let widened: Float32Array | undefined

/** The float32 value of each of the 65536 patterns. */
function widenTable(): Float32Array {
  if (widened) return widened
  const table = new Float32Array(1 << 16)
  const bits = new Uint32Array(table.buffer)
  for (let pattern = 0; pattern < 1 << 16; pattern++) {
    const sign = (pattern & 0x8000) << 16
    const exponent = (pattern >>> 10) & 0x1f
    const mantissa = pattern & 0x3ff
    // NaN through bits: a number assigned as NaN would lose its sign and payload.
    if (exponent === 0x1f) bits[pattern] = sign | FLOAT32_INFINITY | (mantissa << 13)
    else if (exponent > 0) bits[pattern] = sign | ((exponent + 127 - 15) << 23) | (mantissa << 13)
    else table[pattern] = (sign ? -1 : 1) * mantissa * 2 ** -24
  }
  widened = table
  return table
}

/** float16 bit patterns -> float32, exact. */
export function fromFloat16Bits(bits: Uint16Array): Float32Array {
  const table = widenTable()
  const result = new Float32Array(bits.length)
  for (let i = 0; i < bits.length; i++) result[i] = table[bits[i]!]!
  return result
}

/** bfloat16 bit patterns (the upper half of a float32) -> float32, exact. */
export function fromBfloat16Bits(bits: Uint16Array): Float32Array {
  const result = new Uint32Array(bits.length)
  for (let i = 0; i < bits.length; i++) result[i] = bits[i]! << 16
  return new Float32Array(result.buffer)
}

/** float32 -> bfloat16 bit patterns, half to even; NaN stays NaN. */
export function toBfloat16Bits(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  const result = new Uint16Array(values.length)
  for (let i = 0; i < bits.length; i++) {
    const pattern = bits[i]!
    // Rounding could carry a NaN's payload away: it becomes quiet instead.
    const isNaN = (pattern & 0x7fffffff) > FLOAT32_INFINITY
    result[i] = isNaN ? (pattern >>> 16) | 0x40 : (pattern + 0x7fff + ((pattern >>> 16) & 1)) >>> 16
  }
  return result
}

/** float32 numbers as a tensor of a float type. */
export function storeFloats(dtype: FloatType, dims: readonly number[], values: Float32Array): Tensor {
  if (dtype === 'float16') return tensorOf(dtype, dims, toFloat16Bits(values))
  if (dtype === 'bfloat16') return tensorOf(dtype, dims, toBfloat16Bits(values))
  return tensorOf(dtype, dims, dtype === 'float64' ? Float64Array.from(values) : values)
}

/** float32 in a file, read as float16. */
const NARROWING: Conversion = {
  ratio: 2,
  convert: bytes => {
    const bits = toFloat16Bits(new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4))
    return new Uint8Array(bits.buffer)
  },
}

/** A float32 tensor as float16. A range of a file stays one: its numbers are rounded when they are read. */
export function narrowed(tensor: Tensor): Tensor {
  const { dims, data, source } = tensor
  if (!isFileRange(data)) return { ...storeFloats('float16', dims, readElements(tensor) as Float32Array), source }
  return { dtype: 'float16', dims, data: { ...data, length: data.length / 2, conversion: NARROWING }, source }
}

const scratch = new Float32Array(1)

const scratchBits = new Uint32Array(scratch.buffer)

/** The float16 nearest to a float32 number, half to even. */
export function roundToFloat16(x: number): number {
  scratch[0] = x
  return widenTable()[narrow(scratchBits[0]!)]!
}

/**
 * Elements of a float32, float16, bfloat16 or float64 tensor as float32. May share memory with the tensor: not to be written.
 * @throws E_UNSUPPORTED for other types.
 */
export function readFloats(tensor: Tensor): Float32Array {
  switch (tensor.dtype) {
    case 'float32':
      return readElements(tensor) as Float32Array
    case 'float16':
      return fromFloat16Bits(readElements(tensor) as Uint16Array)
    case 'bfloat16':
      return fromBfloat16Bits(readElements(tensor) as Uint16Array)
    case 'float64':
      return Float32Array.from(readElements(tensor) as Float64Array)
    default:
      throw new QuantError(
        'E_UNSUPPORTED',
        `a weight of type ${tensor.dtype} [${tensor.dims.join(', ')}] cannot be quantized`,
        'Weights must be float32, float16, bfloat16 or float64: give the unquantized model.',
      )
  }
}
