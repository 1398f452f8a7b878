/** @file The mix that is chosen: limits, weights that go together, exceptions by name. */

import { expect, test } from 'vitest'
import type { Node } from '../../../src/graph/ir.ts'
import type { CandidateLinear } from '../../../src/quant/choose/candidates.ts'
import { chooseMix, overridesOf } from '../../../src/quant/choose/choose-mix.ts'
import { sensitivitiesOf } from '../../../src/quant/choose/measure-sensitivities.ts'
import type { Linear } from '../../../src/quant/find/linears.ts'

/** A linear of 128 x 4 at 2, 4 and 8 bits, with these bytes. */
function candidate(name: string, kind = 'MatMul', origin = { kind } as Node): CandidateLinear {
  const linear = { name, inFeatures: 128, outFeatures: 4, origin } as Linear
  const quantizer = (bits: number) => ({ bits, group: 128, symmetric: false, scaleDtype: 'float32' as const })
  return { linear, candidates: [2, 4, 8].map(bits => ({ quantizer: quantizer(bits), sizeBytes: 64 * bits })) }
}

/** Measured alone: divergence `kl` at 2 bits, a sixteenth of it at 4, and so on. */
const measured = (linears: readonly CandidateLinear[], kl: readonly number[]) => ({
  linears: linears.flatMap(({ linear, candidates }, i) =>
    sensitivitiesOf([{ linear, candidates, errors: [1, 1 / 16, 1 / 4096], coarseError: 1 }], kl[i]!),
  ),
})

const all = () => 1

test('a sensitive weight gets more bits', () => {
  const linears = [candidate('calm'), candidate('sensitive'), candidate('middle')]
  const table = measured(linears, [0.01, 1, 0.1])
  const bits = (maxSize: number) => chooseMix(linears, table, { maxSize }, 1000, all).chosen.map(each => each.bits)
  expect(bits(1000 + 3 * 128)).toEqual([2, 2, 2])
  expect(bits(1000 + 3 * 128 + 128)).toEqual([2, 4, 2])
  expect(bits(1000 + 3 * 128 + 255)).toEqual([2, 4, 2])
  expect(bits(1000 + 3 * 128 + 256)).toEqual([2, 4, 4])
  expect(bits(1e6)).toEqual([8, 8, 8])
  const least = chooseMix(linears, table, { maxKl: 0.2 }, 1000, all)
  expect(least.chosen.map(each => each.bits)).toEqual([2, 4, 2])
  expect(least.predictedKl).toBeCloseTo(0.01 + 1 / 16 + 0.1, 12)
  // What learning leaves is taken into account.
  expect(chooseMix(linears, table, { maxKl: 0.2 }, 1000, () => 0.1).chosen.map(each => each.bits)).toEqual([2, 2, 2])
})

test('limits that no mix holds: one error, with the least there is', () => {
  const linears = [candidate('a')]
  const table = measured(linears, [1])
  expect(() => chooseMix(linears, table, { maxSize: 1127 }, 1000, all)).toThrow(
    expect.objectContaining({ code: 'E_LIMIT', message: expect.stringContaining('(1128 bytes)') as string }) as Error,
  )
  expect(() => chooseMix(linears, table, { maxKl: 1e-4 }, 1000, all)).toThrow(
    expect.objectContaining({
      code: 'E_LIMIT',
      message: expect.stringContaining('diverge by 0.00024') as string,
    }) as Error,
  )
})

test('experts of one node, and weights of one name, get the same bits', () => {
  const node = { kind: 'com.microsoft.MoE' } as Node
  const linears = [candidate('up', node.kind, node), candidate('down', node.kind, node), candidate('x'), candidate('x')]
  const table = measured(linears, [1, 0, 0, 0.5])
  const { chosen } = chooseMix(linears, table, { maxSize: 4 * 128 + 256 }, 0, all)
  expect(chosen.map(({ bits }) => bits)).toEqual([4, 4, 2, 2])
})

test('the divergence of weights that were rounded together is shared out by their errors', () => {
  const [a, b] = [candidate('a'), candidate('b')]
  const errors = [0.3, 0.03, 0.0003]
  const [first, second] = sensitivitiesOf(
    [
      { ...a, errors, coarseError: 0.3 },
      { ...b, errors: errors.map(each => each / 3), coarseError: 0.1 },
    ],
    0.8,
  )
  expect(first!.candidates.map(({ kl }) => kl)).toEqual([0.6, 0.06, 0.0006].map(kl => expect.closeTo(kl, 12) as number))
  expect(second!.candidates[0]!.kl).toBeCloseTo(0.2, 12)
})

test('a name that is part of another one comes first, as the last exception counts', () => {
  const linears = [candidate('x.proj'), candidate('proj')]
  const mix = chooseMix(linears, measured(linears, [1, 0]), { maxSize: 2 * 128 + 128 }, 0, all)
  expect(overridesOf(linears, mix).map(({ pattern, bits }) => [pattern, bits])).toEqual([
    ['proj', 2],
    ['x.proj', 4],
  ])
})
