/** @file Measures on this machine how long learning a block takes: tries one block with random inputs. */

import { ActivationStore, suffixOf } from '../../calibration/activation-store.ts'
import { Random } from '../../calibration/rng.ts'
import type { WorkFolder } from '../../files/work-folder.ts'
import { staticShape } from '../../graph/shape.ts'
import { elementCount } from '../../graph/tensor.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import type { Method } from '../terms/options.ts'
import { floatVersion, readWeights } from './block-version.ts'
import { ChannelRanges } from './channel-ranges.ts'
import type { BlockTimes } from './effort.ts'
import { foldBlock } from './fold-block.ts'
import { workOf } from './learn-block.ts'
import { observedValues } from './learnables.ts'
import type { Objective } from './objective.ts'
import { runBlock } from './run-block.ts'
import { solveRounding } from './solve-rounding.ts'
import { startBlock } from './start-block.ts'
import { trainBlock } from './train-block.ts'

/** Samples and steps to try. The first one is not counted: it compiles and takes memory. */
const FEW = 3

export interface MeasureOptions {
  /** Number of samples and steps. */
  readonly count?: number
  /** Absent: the error of the block's own output. */
  readonly objective?: Objective | undefined
}

/** Tries the block of `plan` with so many samples and steps. Its hidden states lie in `work` meanwhile. */
export async function measureBlock(
  plan: BlockPlan,
  method: Method,
  work: Pick<WorkFolder, 'file'>,
  { count = FEW, objective }: MeasureOptions = {},
): Promise<BlockTimes> {
  const { session, schedule, optimizer, hiddenStates } = method
  const shape = staticShape(plan.block.input)
  const open = (name: string) =>
    new ActivationStore(work.file(name + suffixOf(hiddenStates)), count, shape, false, hiddenStates)
  const [x, y] = [open('measured-x'), open('measured-y')]
  try {
    const length = elementCount(shape)
    const random = new Random(1)
    for (let i = 0; i < count; i++)
      x.write(
        i,
        Float32Array.from({ length }, () => random.next() - 0.5),
      )
    const started = performance.now()
    const weights = readWeights(plan.block)
    const read = performance.now()
    await foldBlock(plan, weights, undefined, session)
    const folded = performance.now()
    const marks: number[] = []
    const mark = () => void marks.push(performance.now())
    const ranges = new ChannelRanges(observedValues(plan, method))
    await runBlock(plan, floatVersion(weights), { from: x, to: y, observers: ranges.observers }, session, mark)
    const starting = performance.now()
    const { start, vector } = await startBlock(plan, { method, frozen: new Set(), ranges, weights }, x)
    await solveRounding(plan, start, { vector, parameters: vector.initial() }, x)
    // Searches and solutions, with the few samples they ran on.
    const besides = performance.now() - starting
    const steps: number[] = []
    const training = performance.now()
    await trainBlock(plan, vector, { x, y }, weights, {
      epochs: 1,
      schedule,
      optimizer,
      samples: count,
      objective,
      session,
      onProgress: () => void steps.push(performance.now()),
    })
    const forward = (marks.at(-1)! - marks[0]!) / (count - 1)
    const step = (steps.at(-1)! - steps[0]!) / (count - 1)
    const compiling = marks[0]! - folded - forward
    const compilingTraining = steps[0]! - training - step
    const { forwards, folds } = workOf(plan, method)
    return {
      fixed:
        read -
        started +
        besides +
        folds * (folded - read) +
        forwards * Math.max(0, compiling) +
        Math.max(0, compilingTraining),
      sample: forwards * forward,
      step,
    }
  } finally {
    x.remove()
    y.remove()
  }
}
