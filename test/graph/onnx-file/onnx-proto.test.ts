/** @file Fields newer than the schema survive. */

import { describe, expect, it } from 'vitest'
import { onnx, setUnknownFields, toNumber, unknownFields } from '../../../src/graph/onnx-file/onnx-proto.ts'
import { linearModel, modelBytes, numberRecord, textRecord, withUnknown } from '../../helpers/onnx-files.ts'

describe('fields newer than the schema', () => {
  it('survive on messages at every level, after the known ones', () => {
    const model = linearModel()
    const record = (text: string) => textRecord(9, text)
    withUnknown(model.graph!.node![0]!, record('node'))
    withUnknown(model.graph!, textRecord(16, 'graph'))
    withUnknown(model, textRecord(26, 'model'), numberRecord(99, 5))
    const decoded = onnx.ModelProto.decode(modelBytes(model))
    const text = (message: object) => Buffer.from(unknownFields(message)!).toString('latin1')
    expect(text(decoded.graph!.node![0]!)).toContain('node')
    expect(text(decoded.graph!)).toContain('graph')
    expect(unknownFields(decoded)).toEqual(
      new Uint8Array(Buffer.concat([textRecord(26, 'model'), numberRecord(99, 5)])),
    )
    expect(unknownFields(decoded.graph!.node![1]!)).toBeUndefined()
    expect(onnx.ModelProto.encode(decoded).finish()).toEqual(onnx.ModelProto.encode(model).finish())
  })

  it('are not lost when the decoder is given a reader or a Buffer', () => {
    const node = withUnknown({ opType: 'Neg' }, textRecord(9, 'm'))
    const bytes = onnx.NodeProto.encode(node).finish()
    expect(unknownFields(onnx.NodeProto.decode(Buffer.from(bytes)))).toEqual(textRecord(9, 'm'))
    expect(unknownFields(onnx.NodeProto.decode(new Uint8Array(bytes)))).toEqual(textRecord(9, 'm'))
  })

  it('may be none', () => {
    const message = {}
    setUnknownFields(message, undefined)
    expect(unknownFields(message)).toBeUndefined()
  })
})

it('64-bit numbers become numbers', () => {
  const { irVersion } = onnx.ModelProto.decode(Uint8Array.from([0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x08]))
  expect(toNumber(irVersion)).toBe(2 ** 52)
  expect([toNumber(3), toNumber(null), toNumber(undefined)]).toEqual([3, 0, 0])
})
