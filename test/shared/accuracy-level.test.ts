/** @file accuracy_level 4 on real models: what is trained is what ships, for each row and block that the kernel rounds. */

import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { needsShared, sharedDir } from '../helpers/shared.ts'
import { shipped } from '../helpers/shipped.ts'
import { testFolder } from '../helpers/test-folder.ts'

// Few tokens: a number that lies next to the middle between two codes may round the other way after another order of a sum.
const SIZES = { tokens: 8, vocabulary: 2000 }

describe('blocks of the file give the trained output at accuracy_level 4', needsShared, () => {
  test.each<[string, string]>([
    ['wiki-llama/optimum-past', 'w4a16g32'],
    ['wiki-llama-outlier/optimum-past', 'w4a16g32'],
    ['wiki-opt/optimum-past', 'w2a16g64'],
  ])('%s %s', async (model, text) => {
    const method = {
      ...{ scheme: parseScheme(text), accuracyLevel: 4 as const, lwc: true, let: 'norm' as const },
      ...{ epochs: 2, learningRate: 5e-2, schedule: 'constant' as const },
    }
    const { finished, errors } = await shipped(join(sharedDir!, 'models', model), testFolder(), method, {}, SIZES)
    expect(finished.map(({ report }) => report.kept)).toContain('learned')
    for (const [i, error] of errors.entries()) expect(error, `block ${i}`).toBeLessThan(i === 0 ? 1e-5 : 1e-4)
  })
})
