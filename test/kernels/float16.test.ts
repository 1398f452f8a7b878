/** @file float16 conversions, over all 65536 patterns, all ties between them, and against onnxruntime's own Cast. */

import { describe, expect, test } from 'vitest'
import { Builder } from '../../src/graph/builder.ts'
import { readElements, type Tensor, tensorOf } from '../../src/graph/tensor.ts'
import {
  FLOAT16_MAX,
  fromBfloat16Bits,
  fromFloat16Bits,
  readFloats,
  roundToFloat16,
  storeFloats,
  toBfloat16Bits,
  toFloat16Bits,
} from '../../src/kernels/float16.ts'
import { runGraph } from '../../src/kernels/session.ts'

const PATTERNS = Uint16Array.from({ length: 1 << 16 }, (_, i) => i)
const INFINITY = 0x7c00
const values = fromFloat16Bits(PATTERNS)

/** Equality of long arrays; `toEqual` takes a second for these. */
const same = (a: Uint16Array, b: Uint16Array): boolean => a.length === b.length && a.every((x, i) => x === b[i])

/** Neighbours of a float32 number, `steps` patterns away. */
function neighbour(x: number, steps: number): number {
  const bits = new Uint32Array(Float32Array.of(x).buffer)
  bits[0] = bits[0]! + steps
  return new Float32Array(bits.buffer)[0]!
}

describe('fromFloat16Bits', () => {
  test('gives every pattern the value IEEE 754 gives it', () => {
    for (const pattern of PATTERNS) {
      const sign = pattern & 0x8000 ? -1 : 1
      const exponent = (pattern >> 10) & 31
      const fraction = (pattern & 1023) / 1024
      const expected =
        exponent === 31
          ? fraction === 0
            ? sign * Infinity
            : NaN
          : sign * (exponent === 0 ? fraction * 2 ** -14 : (1 + fraction) * 2 ** (exponent - 15))
      if (!Object.is(values[pattern], expected)) expect(values[pattern], `pattern ${pattern}`).toBe(expected)
    }
  })
})

describe('toFloat16Bits', () => {
  test('is the inverse of fromFloat16Bits on every pattern', () => {
    const back = toFloat16Bits(values)
    const wrong = PATTERNS.filter(pattern =>
      Number.isNaN(values[pattern]) ? !((back[pattern]! & 0x7fff) > INFINITY) : back[pattern] !== pattern,
    )
    expect([...wrong]).toEqual([])
  })

  test('rounds to the nearest, and halfway to the even pattern, between all neighbours', () => {
    const lower = PATTERNS.subarray(0, INFINITY)
    // Above the largest number the next step would be 65536; halfway to it and beyond is infinite.
    const upper = (pattern: number) => (pattern + 1 === INFINITY ? 65536 : values[pattern + 1]!)
    const middle = Float32Array.from(lower, pattern => (values[pattern]! + upper(pattern)) / 2)
    const even = Uint16Array.from(lower, pattern => (pattern % 2 === 0 ? pattern : pattern + 1))
    expect(same(toFloat16Bits(middle), even)).toBe(true)
    expect(same(toFloat16Bits(middle.map(x => neighbour(x, -1))), lower)).toBe(true)
    const above = lower.map(pattern => pattern + 1)
    expect(same(toFloat16Bits(middle.map(x => neighbour(x, 1))), above)).toBe(true)
    const negative = even.map(pattern => pattern | 0x8000)
    expect(same(toFloat16Bits(middle.map(x => -x)), negative)).toBe(true)
  })

  test('knows the ends of both ranges', () => {
    const cases: [number, number][] = [
      [65504, 0x7bff],
      [65519.996, 0x7bff],
      [65520, INFINITY],
      [3e38, INFINITY],
      [-Infinity, 0xfc00],
      [2 ** -25, 0],
      [-(2 ** -25) * 1.001, 0x8001],
      [1e-40, 0],
      [-0, 0x8000],
    ]
    expect([...toFloat16Bits(Float32Array.from(cases, ([x]) => x))]).toEqual(cases.map(([, pattern]) => pattern))
  })

  test('agrees with onnxruntime, and reads views that begin inside a buffer', async () => {
    const bits = new Uint32Array(4097)
    for (let i = 0, state = 1; i < bits.length; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      // Exponents around float16's range; the others are covered above.
      bits[i] = (state & 0x807fffff) | ((96 + ((state >>> 23) % 50)) << 23)
    }
    const numbers = new Float32Array(bits.buffer, 4)
    const g = new Builder()
    g.output(g.cast(g.cast(g.input('x', 'float32', [4096]), 'float16'), 'float32'), 'y')
    const { y } = await runGraph(g.graph, { x: tensorOf('float32', [4096], numbers) })
    expect(fromFloat16Bits(toFloat16Bits(numbers))).toEqual(readElements(y!))
    expect(numbers.map(roundToFloat16)).toEqual(readElements(y!))
  })
})

describe('readFloats', () => {
  const numbers = [1, -0.5, 3.140625, 0]

  test.each<[string, Tensor]>([
    ['float32', tensorOf('float32', [4], Float32Array.from(numbers))],
    ['float64', tensorOf('float64', [4], Float64Array.from(numbers))],
    ['float16', tensorOf('float16', [4], toFloat16Bits(Float32Array.from(numbers)))],
    ['bfloat16', tensorOf('bfloat16', [2, 2], Uint16Array.of(0x3f80, 0xbf00, 0x4049, 0))],
  ])('reads %s', (_, tensor) => {
    expect([...readFloats(tensor)]).toEqual(numbers)
  })

  test('refuses what has no float values', () => {
    expect(() => readFloats(tensorOf('uint8', [2], Uint8Array.of(1, 2)))).toThrow(
      expect.objectContaining({ code: 'E_UNSUPPORTED', message: expect.stringContaining('uint8 [2]') }),
    )
  })
})

test('bfloat16 patterns are the upper half of float32', () => {
  const read = fromBfloat16Bits(Uint16Array.of(0x7f80, 0x8000, 0x0001, 0x7fc0))
  expect([...read]).toEqual([Infinity, -0, 2 ** -133, NaN])
})

test('bfloat16: every pattern comes back, ties go to even, NaN stays NaN, and onnxruntime rounds the same', async () => {
  const all = fromBfloat16Bits(PATTERNS)
  const numbers = PATTERNS.filter((_, i) => !Number.isNaN(all[i]))
  expect(
    Buffer.compare(Buffer.from(toBfloat16Bits(fromBfloat16Bits(numbers)).buffer), Buffer.from(numbers.buffer)),
  ).toBe(0)
  expect([...fromBfloat16Bits(toBfloat16Bits(Float32Array.of(NaN, 3.5e38, -1e39)))]).toEqual([NaN, Infinity, -Infinity])
  const between = Float32Array.from({ length: 4096 }, (_, i) => Math.sin(i) * 2 ** ((i % 60) - 30))
  const ties = Float32Array.from({ length: 512 }, (_, i) => 1 + (2 * i + 1) * 2 ** -8)
  for (const floats of [between, ties]) {
    const g = new Builder()
    const x = g.input('x', 'float32', [floats.length])
    g.output(g.cast(g.cast(x, 'bfloat16'), 'float32'), 'y')
    const { y } = await runGraph(g.graph, { x: tensorOf('float32', [floats.length], floats) })
    expect([...fromBfloat16Bits(toBfloat16Bits(floats))]).toEqual([...readFloats(y!)])
  }
})

test.each(['float32', 'float16', 'bfloat16', 'float64'] as const)('numbers stored as %s are read back', dtype => {
  const numbers = Float32Array.of(0, -1.5, 0.25, 96)
  const tensor = storeFloats(dtype, [2, 2], numbers)
  expect([tensor.dtype, tensor.dims]).toEqual([dtype, [2, 2]])
  expect([...readFloats(tensor)]).toEqual([...numbers])
})

test('the largest float16 survives rounding', () => {
  expect(roundToFloat16(FLOAT16_MAX)).toBe(FLOAT16_MAX)
})
