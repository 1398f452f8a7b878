/** @file Small ONNX files for tests of loading and saving, as messages and as bytes. */

import { type Onnx, onnx, setUnknownFields } from '../../src/graph/onnx-file/onnx-proto.ts'
import { encodeVarint, recordHeader } from '../../src/graph/onnx-file/wire.ts'

const FLOAT = 1

export const tensorType = (elemType: number, dims: readonly (number | string)[]): Onnx.ITypeProto => ({
  tensorType: {
    elemType,
    shape: { dim: dims.map(dim => (typeof dim === 'number' ? { dimValue: dim } : { dimParam: dim })) },
  },
})

/** Raw bytes of 0, 1, 2, ... as float32. */
export function floatBytes(count: number): Uint8Array {
  return new Uint8Array(Float32Array.from({ length: count }, (_, i) => i).buffer)
}

export function floatInitializer(name: string, dims: readonly number[]): Onnx.ITensorProto {
  return { name, dims: [...dims], dataType: FLOAT, rawData: floatBytes(dims.reduce((a, b) => a * b, 1)) }
}

/** y = x . w + b, with x [n, 16] and w [16, 32] (2 KiB: large enough to stay on disk) and b [32] (small). */
export function linearModel(): Onnx.IModelProto {
  return {
    irVersion: 10,
    producerName: 'test',
    graph: {
      name: 'linear',
      node: [
        { opType: 'MatMul', input: ['x', 'w'], output: ['xw'], name: 'mm' },
        { opType: 'Add', input: ['xw', 'b'], output: ['y'], name: 'add' },
      ],
      input: [{ name: 'x', type: tensorType(FLOAT, ['n', 16]) }],
      output: [{ name: 'y', type: tensorType(FLOAT, ['n', 32]) }],
      initializer: [floatInitializer('w', [16, 32]), floatInitializer('b', [32])],
    },
    opsetImport: [{ domain: '', version: 21 }],
  }
}

export function modelBytes(model: Onnx.IModelProto): Uint8Array {
  return new Uint8Array(onnx.ModelProto.encode(model).finish())
}

/** A record of `field` holding text, as a newer schema may have. */
export function textRecord(field: number, text: string): Uint8Array {
  const content = Buffer.from(text)
  return new Uint8Array(Buffer.concat([recordHeader(field, content.length), content]))
}

/** A varint record. */
export function numberRecord(field: number, value: number): Uint8Array {
  return Uint8Array.from([...encodeVarint(field * 8), ...encodeVarint(value)])
}

/** `message` with records that the schema of onnx-proto does not know. */
export function withUnknown<T extends object>(message: T, ...records: Uint8Array[]): T {
  setUnknownFields(message, new Uint8Array(Buffer.concat(records)))
  return message
}
