/** @file Planes: read back unchanged, laid out as documented, no larger than promised. */

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { readElements, sizeBytes } from '../../../src/graph/tensor.ts'
import { type ChannelCodes, packPlanes, planeBits } from '../../../src/kernels/pack/planes.ts'
import { noise } from '../weights.ts'
import { unpackPlanes } from './unpack.ts'

/** Random codes and zero points of all sizes. */
function channelCodes(bits: number, K: number, N: number, seed: number): ChannelCodes {
  const random = (length: number, salt: number) =>
    Uint8Array.from(noise(length, seed + salt), x => Math.min(Math.floor((x + 1) * 2 ** (bits - 1)), 2 ** bits - 1))
  return { bits, K, N, codes: random(K * N, 0), zeroPoint: random(N, 1), scale: noise(N, seed + 2) }
}

const bytesOf = (weight: ChannelCodes) => packPlanes(weight).planes.map(({ tensor }) => [...readElements(tensor)])

describe('packPlanes', () => {
  test('4-bit planes: the left half of the columns below the right half', () => {
    const codes = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 15)
    const weight = { bits: 4, K: 2, N: 6, codes, zeroPoint: new Uint8Array(6), scale: new Float32Array(6) }
    expect(bytesOf(weight)).toEqual([[0x41, 0x52, 0x63, 0xa7, 0xb8, 0xf9]])
    expect(packPlanes(weight).planes[0]!.tensor).toMatchObject({ dtype: 'uint8', dims: [2, 3] })
  })

  test('2-bit planes have four quarters; what lies behind the last column is zero', () => {
    const weight = {
      ...{ bits: 2, K: 1, N: 6, codes: Uint8Array.of(1, 2, 3, 0, 1, 2) },
      ...{ zeroPoint: new Uint8Array(6), scale: new Float32Array(6) },
    }
    // Two columns a quarter: (1, 2), (3, 0), (1, 2), none.
    expect(bytesOf(weight)).toEqual([[0b00_01_11_01, 0b00_10_00_10]])
  })

  test('6 bits are 4 low bits and 2 high bits', () => {
    const weight = {
      ...{ bits: 6, K: 1, N: 4, codes: Uint8Array.of(0b010001, 0b100010, 0b110011, 0b000100) },
      ...{ zeroPoint: new Uint8Array(4), scale: new Float32Array(4) },
    }
    expect(packPlanes(weight).planes.map(({ bits, shift }) => [bits, shift])).toEqual([
      [4, 0],
      [2, 4],
    ])
    expect(bytesOf(weight)).toEqual([[0x31, 0x42], [0b00_11_10_01]])
  })

  test('7 and 8 bits are int8 around zero', () => {
    const codes = Uint8Array.of(0, 64, 127)
    const weight = { bits: 7, K: 3, N: 1, codes, zeroPoint: Uint8Array.of(60), scale: Float32Array.of(1) }
    const packed = packPlanes(weight)
    expect(packed.planes[0]!.tensor).toMatchObject({ dtype: 'int8', dims: [3, 1] })
    expect(bytesOf(weight)).toEqual([[-64, 0, 63]])
    expect([...packed.columnSums]).toEqual([0 + 64 + 127 - 3 * 60])
  })

  test.each([
    [2, 2],
    [3, 4],
    [4, 4],
    [5, 6],
    [6, 6],
    [7, 8],
    [8, 8],
  ])('%i-bit codes take %i bits each', (bits, stored) => {
    const { planes } = packPlanes(channelCodes(bits, 16, 24, 1))
    expect(planes.reduce((sum, { tensor }) => sum + sizeBytes(tensor), 0)).toBe((16 * 24 * stored) / 8)
    expect(planeBits(bits)).toBe(stored)
  })

  test('unpackPlanes gives back what was packed', () => {
    const cases = fc.record({
      bits: fc.integer({ min: 2, max: 8 }),
      K: fc.integer({ min: 1, max: 40 }),
      N: fc.integer({ min: 1, max: 40 }),
      seed: fc.integer({ min: 1, max: 1000 }),
    })
    fc.assert(
      fc.property(cases, ({ bits, K, N, seed }) => {
        const weight = channelCodes(bits, K, N, seed)
        const packed = packPlanes(weight)
        expect(unpackPlanes(packed)).toEqual(weight.codes)
        const column = seed % N
        const sum = weight.codes.reduce((total, code, i) => total + (i % N === column ? code : 0), 0)
        expect(packed.columnSums[column]).toBe(sum - K * weight.zeroPoint[column]!)
      }),
    )
  })

  test('refuses sums that an int32 cannot hold', () => {
    const weight = (K: number) => ({ ...channelCodes(8, 1, 1, 1), K, codes: new Uint8Array(K) })
    expect(() => packPlanes(weight(65794))).toThrow(
      expect.objectContaining({ code: 'E_UNSUPPORTED', message: expect.stringContaining('[65794, 1]') }),
    )
    // The largest sum that is let through: every product 128 * 255.
    expect(65793 * 128 * 255).toBeLessThan(2 ** 31)
    expect(packPlanes(weight(65793)).K).toBe(65793)
  })

  test('numbers that do not make a weight are a mistake of ours', () => {
    expect(() => packPlanes({ ...channelCodes(4, 4, 4, 1), K: 5 })).toThrow('do not make a weight [5, 4]')
    expect(() => packPlanes({ ...channelCodes(4, 4, 4, 1), scale: new Float32Array(8) })).toThrow(
      'do not make a weight',
    )
  })
})
