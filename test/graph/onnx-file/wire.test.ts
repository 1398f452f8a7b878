/** @file Records of encoded messages, and payloads taken out and put back. */

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { onnx } from '../../../src/graph/onnx-file/onnx-proto.ts'
import {
  encodeVarint,
  memorySource,
  readRecord,
  readVarints,
  recordHeader,
  rewriteTensors,
  STAND_IN,
  standIn,
} from '../../../src/graph/onnx-file/wire.ts'
import { floatInitializer, linearModel, modelBytes } from '../../helpers/onnx-files.ts'

const RAW_DATA = 9

describe('varints', () => {
  it('of any size up to 2^53 are read as written', () => {
    fc.assert(
      fc.property(fc.array(fc.maxSafeNat()), values => {
        const bytes = Uint8Array.from(values.flatMap(encodeVarint))
        expect(readVarints(memorySource(bytes), 0, bytes.length)).toEqual(values)
      }),
      { seed: 1 },
    )
    expect(encodeVarint(300)).toEqual([0xac, 0x02])
  })
})

describe('readRecord', () => {
  it.each([
    ['varint', [0x08, 0x96, 0x01, 0xff], { field: 1, wireType: 0, start: 1, end: 3 }],
    ['64 bits', [0x09, 1, 2, 3, 4, 5, 6, 7, 8], { field: 1, wireType: 1, start: 1, end: 9 }],
    ['bytes', [0x12, 2, 7, 7, 0xff], { field: 2, wireType: 2, start: 2, end: 4 }],
    ['32 bits', [0x0d, 1, 2, 3, 4], { field: 1, wireType: 5, start: 1, end: 5 }],
  ])('knows where a record of %s ends', (_, bytes, expected) => {
    expect(readRecord(memorySource(Uint8Array.from(bytes)), 0, bytes.length)).toMatchObject(expected)
  })

  it.each([
    ['a group', [0x0b, 0x0c]],
    ['field 0', [0x00, 0x01]],
    ['a varint of eleven bytes', [0x08, ...Array<number>(11).fill(0xff)]],
    ['a record that overruns its message', [0x0a, 5, 1, 2, 3, 4, 5], 4],
  ])('refuses %s', (_, bytes, end = bytes.length) => {
    const source = memorySource(Uint8Array.from(bytes))
    expect(() => readRecord(source, 0, end)).toThrow(expect.objectContaining({ code: 'E_NOT_ONNX' }))
  })

  it('calls a file that begins like ONNX and ends early truncated', () => {
    const bytes = Uint8Array.from([0x08, 10, 0x3a, 100, 1, 2])
    expect(() => readRecord(memorySource(bytes), 2, bytes.length)).toThrow(
      expect.objectContaining({ code: 'E_TRUNCATED', message: expect.stringContaining('byte 2') }),
    )
  })
})

describe('rewriteTensors', () => {
  const join = (pieces: readonly unknown[]) => new Uint8Array(Buffer.concat(pieces as Uint8Array[]))
  /** A tensor in the graph, one in an attribute and one in a body. */
  const model = () => {
    const message = linearModel()
    message.graph!.node![0]!.attribute = [
      { name: 'a', type: 4, t: floatInitializer('t', [3]) },
      { name: 'g', type: 5, g: { name: 'body', initializer: [floatInitializer('inner', [5])] } },
    ]
    return message
  }

  it('takes payloads out and puts them back, in attributes and bodies too', () => {
    const bytes = modelBytes(model())
    const payloads: Uint8Array[] = []
    const source = memorySource(bytes)
    const skeleton = join(
      rewriteTensors(source, ({ field, start, end }) =>
        field === RAW_DATA ? [standIn([payloads.push(source.copy(start, end)) - 1])] : undefined,
      ),
    )
    expect(payloads.map(({ length }) => length).sort((a, b) => a - b)).toEqual([12, 20, 128, 2048])
    expect(onnx.ModelProto.decode(skeleton).graph!.initializer![0]!.rawData!.length).toBe(0)

    const frame = memorySource(skeleton)
    const back = rewriteTensors(frame, ({ field, start, end }) => {
      if (field !== STAND_IN) return undefined
      const payload = payloads[readVarints(frame, start, end)[0]!]!
      return [recordHeader(RAW_DATA, payload.length), payload]
    })
    const restored = onnx.ModelProto.decode(join(back))
    expect(onnx.ModelProto.toObject(restored)).toEqual(onnx.ModelProto.toObject(onnx.ModelProto.decode(bytes)))
  })

  it('copies a message nothing is replaced in as it is', () => {
    const bytes = modelBytes(model())
    expect(rewriteTensors(memorySource(bytes), () => undefined)).toEqual([bytes])
  })

  it('does not look into messages under the minimum', () => {
    const seen: number[] = []
    rewriteTensors(
      memorySource(modelBytes(model())),
      ({ field, start, end }) => {
        if (field === RAW_DATA) seen.push(end - start)
        return undefined
      },
      1024,
    )
    expect(seen).toEqual([2048])
  })
})
