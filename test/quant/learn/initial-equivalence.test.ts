/** @file Start values of transformations, on a block small enough to compute by hand. */

import { expect, test } from 'vitest'
import { Builder } from '../../../src/graph/builder.ts'
import { floatTensor, tensorOf } from '../../../src/graph/tensor.ts'
import type { Block } from '../../../src/quant/find/blocks.ts'
import type { Linear } from '../../../src/quant/find/linears.ts'
import type { Mapping } from '../../../src/quant/plan/mappings/mapping.ts'
import type { BlockPlan } from '../../../src/quant/plan/block-plan.ts'
import { ChannelRanges } from '../../../src/quant/learn/channel-ranges.ts'
import { initialEquivalence, observedValues } from '../../../src/quant/learn/initial-equivalence.ts'

/** Two linears [3, 2] that read x [1, 2, 3]. */
function block(): { linears: Linear[]; block: Block } {
  const g = new Builder()
  const x = g.input('x', 'float32', [1, 2, 3])
  const linears = ['a', 'b'].map((name): Linear => {
    const weight = g.initializer(name, floatTensor([3, 2], Array(6).fill(0)))
    const node = g.matMul(x, weight).producer!
    return { name, node, origin: node, weight, transposed: false, inFeatures: 3, outFeatures: 2 }
  })
  return { linears, block: { index: 0, input: x, output: x, nodes: g.graph.nodes, linears, skipped: [] } }
}

const WEIGHTS = {
  w0: tensorOf('float32', [3, 2], Float32Array.of(1, -4, 2, 0, 0, 0)),
  w1: tensorOf('float32', [3, 2], Float32Array.of(0.5, 3, -9, 1, 0, 0)),
}

function planWith(scales: Int32Array, size: number, shift: Mapping['shift']): BlockPlan {
  const { linears, block: found } = block()
  const mapping: Mapping = {
    ...{ kind: 'norm', name: 'n -> a, b', size, divided: [], shift, outputs: [] },
    multiplied: linears.map(linear => ({ kind: 'rows', linear, scales })),
  }
  return { block: found, mappings: [mapping] } as Partial<BlockPlan> as BlockPlan
}

/** Ranges over all samples; channel 2 is silent. */
function seenBy(plan: BlockPlan): ChannelRanges {
  const ranges = new ChannelRanges(observedValues(plan))
  expect(ranges.observers.map(({ over }) => over)).toEqual(['max', 'min'])
  const [max, min] = ranges.observers
  max!.take(Float32Array.of(4, 5, 0))
  min!.take(Float32Array.of(-9, -2, 0))
  return ranges
}

const each = Int32Array.of(0, 1, 2)

test('scale = max|x|^alpha / max|w|^(1 - alpha), over all linears and samples; silent channels stay harmless', () => {
  const plan = planWith(each, 3, undefined)
  const [half] = initialEquivalence(plan, seenBy(plan), WEIGHTS, 0.5)
  expect(half!.scale[0]).toBeCloseTo(Math.sqrt(9 / 4), 6)
  expect(half!.scale[1]).toBeCloseTo(Math.sqrt(5 / 9), 6)
  expect(half!.scale[2]).toBeCloseTo(1, 6)
  const [all] = initialEquivalence(plan, seenBy(plan), WEIGHTS, 1)
  expect(all!.scale[0]).toBeCloseTo(9, 6)
})

test('channels that share a scale share the largest of their maxima', () => {
  const plan = planWith(Int32Array.of(0, 0, -1), 1, undefined)
  const { scale } = initialEquivalence(plan, seenBy(plan), WEIGHTS, 0.5)[0]!
  expect([...scale]).toEqual([Math.fround(Math.sqrt(9 / 9))])
})

test('a shift is the middle of the range, and the scale is that of what is left', () => {
  const site = { node: block().linears[0]!.node, input: 1 }
  const plan = planWith(each, 3, site)
  const { scale, shift } = initialEquivalence(plan, seenBy(plan), WEIGHTS, 0.5)[0]!
  expect([...shift]).toEqual([-2.5, 1.5, 0])
  expect(scale[0]).toBeCloseTo(Math.sqrt(6.5 / 4), 6)
  expect(scale[1]).toBeCloseTo(Math.sqrt(3.5 / 9), 6)
})

test('between queries and keys it starts from 1', () => {
  const plan = planWith(each, 3, undefined)
  const mapping = { ...plan.mappings[0]!, kind: 'query-key' as const, multiplied: [] }
  const { scale } = initialEquivalence({ ...plan, mappings: [mapping] }, seenBy(plan), WEIGHTS, 0.5)[0]!
  expect([...scale]).toEqual([1, 1, 1])
})
