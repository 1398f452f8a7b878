/** @file How much is learned in a run, within the limits it was given; asked of the machine once, and kept. */

import type { WorkFolder } from '../files/work-folder.ts'
import type { Analysis } from './analyze.ts'
import { BlockJob, type Method } from './block-job.ts'
import { type Effort, stepsForWork, withinSteps, withinTime } from './effort.ts'
import { measureBlock } from './measure-block.ts'

export interface EffortLimits {
  /** Learn less than asked where all blocks would take more floating-point operations: the same for everybody. */
  readonly maxWork?: number | undefined
  /** Learn less than asked where all blocks would take longer, in milliseconds: as it is measured when the run begins. */
  readonly timeBudgetMs?: number | undefined
}

const RECORD = 'effort'

const effortName = ({ samples, epochs }: Effort): string =>
  `learned from ${samples} samples in ${epochs} ${epochs === 1 ? 'epoch' : 'epochs'}`

/**
 * What was measured once holds for the whole run, however often it is resumed.
 * @throws E_LIMIT when the time budget is too short for anything.
 */
export async function chooseEffort(
  options: Effort & EffortLimits & Method,
  { blocks, seqLen, values, otherBranch }: Analysis,
  work: WorkFolder,
): Promise<{ effort: Effort; notes: readonly string[] }> {
  const { samples, epochs, learningRate, schedule, maxWork = Infinity, timeBudgetMs } = options
  const asked: Effort = { samples, epochs, learningRate, schedule }
  const weights = blocks.flatMap(({ linears }) =>
    linears.map(({ inFeatures, outFeatures }) => inFeatures * outFeatures),
  )
  const all = weights.reduce((sum, count) => sum + count, 0)
  const effort = withinSteps(asked, stepsForWork(maxWork, all, seqLen))
  if (timeBudgetMs === undefined)
    return {
      effort,
      notes:
        effort === asked ? [] : [`${effortName(effort)}, as the model is large: --samples and --epochs ask for more`],
    }
  if (!work.has(RECORD)) {
    const plan = new BlockJob(options, blocks.length, values, otherBranch).plan(blocks[0]!)
    work.write(RECORD, withinTime(effort, await measureBlock(plan, options, work), blocks.length, timeBudgetMs))
  }
  const fitted = work.read(RECORD) as Effort
  return { effort: fitted, notes: [`${effortName(fitted)}, within the time budget`] }
}
