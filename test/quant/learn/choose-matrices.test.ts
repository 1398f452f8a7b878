/** @file A matrix is learned where it leaves less of the error: for values with few large numbers, not for those that are mostly zero. */

import { join } from 'node:path'
import { expect, test } from 'vitest'
import { ActivationStore } from '../../../src/calibration/activation-store.ts'
import { Graph, Node, Value } from '../../../src/graph/ir.ts'
import { elementCount, tensorOf } from '../../../src/graph/tensor.ts'
import type { Block } from '../../../src/quant/find/blocks.ts'
import type { Linear } from '../../../src/quant/find/linears.ts'
import { floatVersion } from '../../../src/quant/learn/block-version.ts'
import { chooseMatrices } from '../../../src/quant/learn/choose-matrices.ts'
import type { BlockPlan } from '../../../src/quant/plan/block-plan.ts'
import { tempDir } from '../../helpers/temp-dir.ts'
import { noise } from '../../kernels/weights.ts'

const folder = tempDir()
const [T, C] = [16, 64]

/** A block of one linear that reads the block's input, with a matrix of 8 x 8. */
function planOf(): { plan: BlockPlan; weights: Record<string, ReturnType<typeof tensorOf>> } {
  const shape = [1, T, C]
  const input = new Value('x', 'float32', shape)
  const weight = new Value('w', 'float32', [C, C], tensorOf('float32', [C, C], noise(C * C, 3)))
  const output = new Value('y', 'float32', shape)
  const node = new Node('MatMul', [input, weight], [output])
  const linear = {
    node,
    origin: node,
    name: 'proj',
    weight,
    transposed: false,
    inFeatures: C,
    outFeatures: C,
  } as Linear
  const block = {
    index: 0,
    nodes: [node],
    input,
    output,
    linears: [linear],
    graph: new Graph('block'),
  } as unknown as Block
  const site = {
    ...{
      value: input,
      quantizer: { bits: 4, symmetric: false },
      by: 'graph',
      group: C,
      factors: [8, 8],
      user: undefined,
    },
    readers: [{ node, input: 0 }],
  } as const
  const plan = { block, activationSites: [site], mappings: [], quantizers: new Map() } as unknown as BlockPlan
  return { plan, weights: { w0: weight.tensor! as ReturnType<typeof tensorOf> } }
}

test.each<[string, (x: number, i: number) => number, number]>([
  ['with a large number in each token', (x, i) => (i % C === (i / C) % 7 ? 30 * x : x), 1],
  ['that are mostly zero', (x, i) => (i % 11 === 0 ? Math.abs(x) : 0), 0],
])('values %s', async (name, change, count) => {
  const { plan, weights } = planOf()
  const store = new ActivationStore(join(folder, name), 2, [1, T, C])
  for (let i = 0; i < 2; i++) store.write(i, noise(elementCount([1, T, C]), 5 + i).map(change))
  const chosen = await chooseMatrices(plan, floatVersion(weights), store, { threads: 1 })
  store.close()
  expect(chosen.size).toBe(count)
})
