/** @file Rounding a block from its files gives, byte for byte, what folding it without parameters gives. */

import { resolve } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { type Analysis } from '../../../src/quant/find/analysis.ts'
import { analyze } from '../../../src/quant/find/analyze.ts'
import { planBlock } from '../../../src/quant/plan/plan-block.ts'
import { foldBlock } from '../../../src/quant/learn/fold-block.ts'
import { readWeights } from '../../../src/quant/learn/block-version.ts'
import { roundLinears } from '../../../src/quant/learn/round-block.ts'
import { parseScheme, type QuantScheme } from '../../../src/quant/terms/scheme.ts'

let analysis: Analysis
beforeAll(async () => {
  analysis = await analyze(resolve(import.meta.dirname, '../../../fixtures/tiny-llama'), 16)
})

const SCHEMES: readonly QuantScheme[] = [
  parseScheme('w4a16g32'),
  parseScheme('w3a16g64'),
  parseScheme('w2a16g16'),
  parseScheme('w4a16', { perChannel: true }),
  parseScheme('w8a8'),
  parseScheme('w6a6'),
  parseScheme('w4a4'),
]

test.each(SCHEMES)('$weights', async scheme => {
  const plan = planBlock(analysis.blocks[1]!, { scheme, let: false, values: analysis.values })
  const folded = await foldBlock(plan, readWeights(plan.block), undefined, {})
  const rounded = roundLinears(plan)
  expect(rounded.length).toBe(7)
  expect(rounded.map(({ packed }) => packed)).toEqual(folded.linears.map(({ packed }) => packed))
})

test('the CPU folds, whatever the device is', async () => {
  const plan = planBlock(analysis.blocks[0]!, { scheme: SCHEMES[0]!, let: false, values: analysis.values })
  const weights = readWeights(plan.block)
  // No machine has this device: a session on it would fail.
  const folded = await foldBlock(plan, weights, undefined, { device: 'cuda:99' })
  const onCpu = await foldBlock(plan, weights, undefined, {})
  expect(folded.linears.map(({ packed }) => packed)).toEqual(onCpu.linears.map(({ packed }) => packed))
})
