/** @file Element types of ONNX tensors: names, numbers in the file format, widths. Knows no tensor. */

import { QuantError } from '../errors.ts'

// number: TensorProto.DataType of onnx.proto (ONNX 1.20); bits: width of one element, 0 = not of fixed width.
const TABLE = {
  float32: { number: 1, bits: 32 },
  uint8: { number: 2, bits: 8 },
  int8: { number: 3, bits: 8 },
  uint16: { number: 4, bits: 16 },
  int16: { number: 5, bits: 16 },
  int32: { number: 6, bits: 32 },
  int64: { number: 7, bits: 64 },
  string: { number: 8, bits: 0 },
  bool: { number: 9, bits: 8 },
  float16: { number: 10, bits: 16 },
  float64: { number: 11, bits: 64 },
  uint32: { number: 12, bits: 32 },
  uint64: { number: 13, bits: 64 },
  complex64: { number: 14, bits: 64 },
  complex128: { number: 15, bits: 128 },
  bfloat16: { number: 16, bits: 16 },
  float8e4m3fn: { number: 17, bits: 8 },
  float8e4m3fnuz: { number: 18, bits: 8 },
  float8e5m2: { number: 19, bits: 8 },
  float8e5m2fnuz: { number: 20, bits: 8 },
  uint4: { number: 21, bits: 4 },
  int4: { number: 22, bits: 4 },
  float4e2m1: { number: 23, bits: 4 },
  float8e8m0: { number: 24, bits: 8 },
  uint2: { number: 25, bits: 2 },
  int2: { number: 26, bits: 2 },
} as const

export type DType = keyof typeof TABLE

const BY_NUMBER = new Map<number, DType>(Object.entries(TABLE).map(([name, { number }]) => [number, name as DType]))

/** Number of `dtype` in ONNX files. */
export function dtypeNumber(dtype: DType): number {
  return TABLE[dtype].number
}

/** The element type with this number in ONNX files. @throws E_UNSUPPORTED for a number no ONNX release we know defines. */
export function dtypeFromNumber(number: number): DType {
  const dtype = BY_NUMBER.get(number)
  if (dtype === undefined) {
    throw new QuantError(
      'E_UNSUPPORTED',
      `element type ${number} is not known`,
      'The file may be damaged, or newer than this version of omniquant.',
    )
  }
  return dtype
}

/** Bytes of `count` elements in a file. Types below a byte are packed without gaps; `string`, of no fixed width, gives 0. */
export function byteLength(dtype: DType, count: number): number {
  return Math.ceil((count * TABLE[dtype].bits) / 8)
}

/** Element types of weights and activations. */
export type FloatType = 'float32' | 'float16' | 'float64' | 'bfloat16'

export function isFloat(dtype: DType): dtype is FloatType {
  return dtype === 'float32' || dtype === 'float16' || dtype === 'float64' || dtype === 'bfloat16'
}
