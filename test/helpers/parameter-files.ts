/** @file Parameter files with their tensors as float32 arrays, for tests that compare or change numbers. */

import { readSafetensors, writeSafetensors } from '../../src/files/safetensors.ts'
import type { DType } from '../../src/graph/dtype.ts'
import { readFloats } from '../../src/kernels/float16.ts'

export interface ParameterFile {
  readonly metadata: Readonly<Record<string, string>>
  readonly tensors: ReadonlyMap<string, { readonly shape: readonly number[]; readonly data: Float32Array }>
}

const TYPES: Record<string, DType> = { F32: 'float32', F16: 'float16', BF16: 'bfloat16', F64: 'float64' }

export function readParameterFile(path: string): ParameterFile {
  const { metadata, tensors } = readSafetensors(path)
  const floats = [...tensors].map(([name, { dtype, shape, bytes }]) => {
    const data = readFloats({ dtype: TYPES[dtype]!, dims: shape, data: bytes })
    return [name, { shape, data }] as const
  })
  return { metadata, tensors: new Map(floats) }
}

export function writeParameterFile(path: string, { metadata, tensors }: ParameterFile): void {
  const bytes = [...tensors].map(([name, { shape, data }]) => {
    const view = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    return [name, { dtype: 'F32', shape, bytes: view }] as const
  })
  writeSafetensors(path, { metadata, tensors: new Map(bytes) })
}
