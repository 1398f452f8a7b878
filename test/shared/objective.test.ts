/** @file Looking ahead in real exporters' files: the nodes behind a block are found, and gradients pass through all of them. */

import { describe, expect, test } from 'vitest'
import { optimizerOf } from '../../src/autodiff/optimizers.ts'
import { analyze } from '../../src/quant/find/analyze.ts'
import { readWeights } from '../../src/quant/learn/block-version.ts'
import { ChannelRanges } from '../../src/quant/learn/channel-ranges.ts'
import { blockParameters } from '../../src/quant/learn/learnables.ts'
import { objectiveFor, objectiveWeights } from '../../src/quant/learn/objective.ts'
import { trainingProgram } from '../../src/quant/learn/training-program.ts'
import { planBlock } from '../../src/quant/plan/plan-block.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { methodOf } from '../helpers/method.ts'
import { needsShared } from '../helpers/shared.ts'
import { modelOf, RUNNING } from './files.ts'

const scheme = parseScheme('w4a16g32')
const METHOD = methodOf({ scheme, lwc: true })

describe('programs that look ahead', needsShared, () => {
  test.each(RUNNING.filter(([name]) => name.startsWith('zoo/')))('%s', async (name, { linears, blocks: count }) => {
    const analysis = await analyze(modelOf(name), 8)
    const { blocks, values } = analysis
    for (const [index, error, behind] of [
      [0, 'squared', linears],
      [count - 1, 'divergence', 1],
    ] as const) {
      const block = blocks[index]!
      const objective = objectiveFor({ lookahead: true }, analysis, index)!
      expect(objective).toMatchObject({ error, behind: { skipped: error === 'squared' ? expect.anything() : [] } })
      expect(objective.behind.linears.length).toBe(behind)
      const plan = planBlock(block, { scheme, let: false, values })
      const weights = readWeights(block)
      const start = { method: METHOD, frozen: new Set<never>(), ranges: new ChannelRanges([]), weights }
      const vector = blockParameters(plan, start)
      const { inputs } = trainingProgram(plan, vector, optimizerOf('adamw', vector.segments), { objective })
      const given = Object.keys(objectiveWeights(objective))
      expect(inputs.map(input => input.name)).toEqual(expect.arrayContaining(given))
      expect(given.length).toBe(behind)
    }
  })
})
