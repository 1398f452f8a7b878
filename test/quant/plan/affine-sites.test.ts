/** @file Sites that get a matrix, and those that cannot have one. */

import { resolve } from 'node:path'
import { expect, test } from 'vitest'
import { Value } from '../../../src/graph/ir.ts'
import { analyze } from '../../../src/quant/find/analyze.ts'
import { affineSites, withMatrices } from '../../../src/quant/plan/affine-sites.ts'
import { planBlock } from '../../../src/quant/plan/plan-block.ts'
import { parseScheme } from '../../../src/quant/terms/scheme.ts'

const MODEL = resolve(import.meta.dirname, '../../../fixtures/tiny-llama')
const { blocks, values } = await analyze(MODEL, 8)
const [block] = blocks
const scheme = parseScheme('w4a4')

test('every value that linears read has one, queries, keys and values have none', () => {
  const plan = planBlock(block!, { scheme, let: 'affine', values })
  expect(plan.activationSites.map(site => [site.user !== undefined, site.factors])).toEqual([
    ...[
      [8, 8],
      [8, 8],
      [8, 8],
      [10, 16],
    ].map(factors => [false, factors]),
    ...[1, 2, 3].map(() => [true, undefined]),
  ])
  expect(plan.notes).toEqual([])
  expect(affineSites(planBlock(block!, { scheme, let: true, values }))).toEqual([])
})

test('channels without factors near each other are refused by name', () => {
  const { activationSites } = planBlock(block!, { scheme, let: true, values })
  const wide = activationSites.map((site, i) =>
    i === 1 ? { ...site, value: new Value('x', 'float32', [1, 8, 1031]) } : site,
  )
  const { sites, refused } = withMatrices(wide, block!.linears)
  expect(refused).toEqual([{ at: 'matrix -> o_proj', reason: '1031 channels are 1 x 1031 at best' }])
  expect(sites[1]).toBe(wide[1])
  expect(affineSites({ activationSites: sites }).length).toBe(3)
})
