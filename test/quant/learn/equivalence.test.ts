/** @file Transformations leave the float block as it is; test/shared/equivalence.test.ts asks that of real exporters' files. */

import { resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { analyze } from '../../../src/quant/find/analyze.ts'
import { planBlock } from '../../../src/quant/plan/plan-block.ts'
import { parseScheme } from '../../../src/quant/terms/scheme.ts'
import { equivalenceError } from '../../helpers/equivalence.ts'

const MODEL = resolve(import.meta.dirname, '../../../fixtures/tiny-llama')

describe('tiny-llama', async () => {
  const { blocks, values } = await analyze(MODEL, 8)
  const plans = blocks.map(block => planBlock(block, { scheme: parseScheme('w4a4'), let: true, values }))

  test('every block has all the transformations of a Llama', () => {
    for (const { mappings, skippedMappings } of plans) {
      expect(mappings.map(({ kind }) => kind).sort()).toEqual(['norm', 'norm', 'query-key', 'up-down', 'value'])
      expect(skippedMappings).toEqual([])
    }
  })

  test.each(plans.map((plan, i) => ({ i, plan })))('block $i computes the same, to 1e-9', async ({ plan }) => {
    expect(await equivalenceError(plan)).toBeLessThan(1e-9)
  })

  test('with matrices before linears it computes the same, to 1e-9', async () => {
    const plan = planBlock(blocks[0]!, { scheme: parseScheme('w4a4'), let: 'affine', values })
    const none = [undefined, undefined, undefined]
    expect(plan.activationSites.map(({ factors }) => factors?.join())).toEqual(['8,8', '8,8', '8,8', '10,16', ...none])
    expect(await equivalenceError(plan)).toBeLessThan(1e-9)
  })

  test('the check can fail: a query-key scale of its own for every channel is no equivalence', async () => {
    const [plan] = plans
    const untied = plan!.mappings.map(mapping => {
      if (mapping.kind !== 'query-key') return mapping
      const own = (end: (typeof mapping.divided)[number]) => ({ ...end, scales: end.scales.map((_, i) => i) })
      return { ...mapping, size: mapping.divided[0]!.scales.length, divided: mapping.divided.map(own) }
    })
    expect(await equivalenceError({ ...plan!, mappings: untied })).toBeGreaterThan(1e-3)
  })
})
