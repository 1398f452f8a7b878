/**
 * @file Matrices before the linears of real exporters' files: every block of the file gives the trained output. Every site has one here,
 * also those of random weights, which no matrix helps.
 */

import { join } from 'node:path'
import { describe, expect, test, vi } from 'vitest'
import { affineSites } from '../../src/quant/plan/affine-sites.ts'
import type { BlockPlan } from '../../src/quant/plan/block-plan.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { needsShared, sharedDir } from '../helpers/shared.ts'
import { shipped } from '../helpers/shipped.ts'
import { testFolder } from '../helpers/test-folder.ts'

vi.mock('../../src/quant/learn/choose-matrices.ts', () => ({
  chooseMatrices: (plan: BlockPlan) => Promise.resolve(new Set(affineSites(plan))),
}))

describe('what is trained is what ships', needsShared, () => {
  test.each([
    'zoo/optimum-gpt2', // Gemm of two dimensions
    'zoo/optimum-qwen3-moe', // experts that get no token
    'zoo/optimum-phi3', // q, k, v in one product
  ])('%s', async name => {
    const method = {
      scheme: parseScheme('w4a4'),
      let: 'affine',
      learnRanges: true,
      epochs: 2,
      learningRate: 5e-2,
    } as const
    const path = join(sharedDir!, name, 'model.onnx')
    const { finished, errors } = await shipped(path, testFolder(), method, {}, { tokens: 8, vocabulary: 90 })
    expect(finished.map(({ report }) => report.kept)).toContain('learned')
    const names = finished.flatMap(({ report }) => report.mappings).filter(name => name.startsWith('matrix'))
    expect(names.length).toBeGreaterThan(0)
    for (const [i, error] of errors.entries()) expect(error, `block ${i}`).toBeLessThan(1e-4)
  })
})
