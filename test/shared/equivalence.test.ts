/** @file Transformations leave the float blocks of real exporters' files as they are. */

import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { analyze } from '../../src/quant/analyze.ts'
import { planBlock } from '../../src/quant/plan.ts'
import { parseScheme } from '../../src/quant/scheme.ts'
import { equivalenceError } from '../helpers/equivalence.ts'
import { sharedDir } from '../helpers/shared.ts'

describe.skipIf(!sharedDir)('float blocks compute the same when transformed, to 1e-9', () => {
  test.each<[string, number]>([
    ['models/wiki-llama/optimum-past', 5],
    ['models/wiki-llama/genai-fp32', 5],
    ['models/wiki-llama-mha/optimum-nopast', 5],
    ['models/wiki-opt/optimum-past', 5],
    ['zoo/optimum-qwen3', 5],
    ['zoo/optimum-gpt2', 4],
  ])('%s: %i transformations', async (path, count) => {
    const { blocks, values } = await analyze(join(sharedDir!, path), 8)
    const plan = planBlock(blocks[0]!, { scheme: parseScheme('w4a4'), let: true, values })
    expect(plan.mappings.map(({ name }) => name)).toHaveLength(count)
    expect(await equivalenceError(plan)).toBeLessThan(1e-9)
  })
})
