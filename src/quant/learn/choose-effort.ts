/** @file Effort of a run within its limits: measured on the machine once, and kept in the work folder. */

import { runsFor } from '../../decoder/feeds.ts'
import { option } from '../../option-mark.ts'
import type { WorkFolder } from '../../files/work-folder.ts'
import type { Analysis } from '../find/analysis.ts'
import { weightCount } from '../find/linears.ts'
import { blockPlanner } from '../plan/block-planner.ts'
import type { EffortLimits, Method } from '../terms/options.ts'
import { type Effort, stepsForWork, withinSteps, withinTime } from './effort.ts'
import { measureBlock } from './measure-block.ts'
import { objectiveFor } from './objective.ts'

const RECORD = 'effort'

const effortName = ({ samples, epochs }: Effort): string =>
  `learned from ${samples} samples in ${epochs} ${epochs === 1 ? 'epoch' : 'epochs'}`

/**
 * Samples and epochs of a run. A resumed run keeps what was measured when it began.
 * @throws E_LIMIT when the time budget is too short for the least learning.
 */
export async function chooseEffort(
  options: Effort & EffortLimits & Method,
  analysis: Analysis,
  work: WorkFolder,
): Promise<{ effort: Effort; notes: readonly string[] }> {
  const { blocks, seqLen, io } = analysis
  const { samples, epochs, learningRate, schedule, maxWork = Infinity, timeBudgetMs } = options
  // One run of the model gives one sample of a block.
  const { batch = 1 } = io
  const asked: Effort = { samples: runsFor(io, samples), epochs, learningRate, schedule }
  const inSequences = (effort: Effort): Effort => ({ ...effort, samples: Math.min(samples, effort.samples * batch) })
  const batchNotes = batch === 1 ? [] : [`a step learns from ${batch} samples at once: the model's batch is fixed`]
  const all = weightCount(blocks.flatMap(({ linears }) => linears))
  const effort = withinSteps(asked, stepsForWork(maxWork, all, seqLen * batch))
  if (timeBudgetMs === undefined)
    return {
      effort: inSequences(effort),
      notes: [
        ...(effort === asked
          ? []
          : [
              `${effortName(inSequences(effort))}, as the model is large: ${option('samples')} and ${option('epochs')} ask for more`,
            ]),
        ...batchNotes,
      ],
    }
  if (!work.has(RECORD)) {
    const plan = blockPlanner(options, analysis)(blocks[0]!)
    work.write(
      RECORD,
      withinTime(
        effort,
        await measureBlock(plan, options, work, { objective: objectiveFor(options, analysis, 0) }),
        blocks.length,
        timeBudgetMs,
      ),
    )
  }
  const fitted = inSequences(work.read(RECORD) as Effort)
  return { effort: fitted, notes: [`${effortName(fitted)}, within the time budget`, ...batchNotes] }
}
