/** @file How long a block takes on this machine: one of them is tried, with numbers that mean nothing. */

import { ActivationStore } from '../../calibration/activation-store.ts'
import { Random } from '../../calibration/rng.ts'
import type { WorkFolder } from '../../files/work-folder.ts'
import { staticShape } from '../../graph/shape.ts'
import { elementCount } from '../../graph/tensor.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import type { Method } from '../terms/options.ts'
import { floatVersion, readWeights } from './block-version.ts'
import type { BlockTimes } from './effort.ts'
import { foldBlock } from './fold-block.ts'
import { blockParameters } from './learned.ts'
import { runBlock } from './run-block.ts'
import { trainBlock } from './train-block.ts'

/** The first of them is for compiling and for memory to be taken. */
const STEPS = 3

/** Tries the block of `plan`; what it needs on disk lies in `work` meanwhile. */
export async function measureBlock(plan: BlockPlan, method: Method, work: WorkFolder): Promise<BlockTimes> {
  const { session, schedule, optimizer, learningRate, lwc } = method
  const open = (name: string) => new ActivationStore(work.file(name), STEPS, staticShape(plan.block.input))
  const [x, y] = [open('measured-x.f32'), open('measured-y.f32')]
  try {
    const length = elementCount(staticShape(plan.block.input))
    const random = new Random(1)
    for (let i = 0; i < STEPS; i++)
      x.write(
        i,
        Float32Array.from({ length }, () => random.next() - 0.5),
      )
    const started = performance.now()
    const weights = readWeights(plan.block)
    await foldBlock(plan, weights, undefined, session)
    const folded = performance.now()
    const marks: number[] = []
    const mark = () => void marks.push(performance.now())
    await runBlock(plan, floatVersion(weights), { from: x, to: y }, session, mark)
    const zero = plan.mappings.map(({ size }) => ({ scale: new Float32Array(size), shift: new Float32Array(size) }))
    const rates = { clipRate: lwc ? learningRate : undefined, equivalenceRate: learningRate }
    const vector = blockParameters(plan, zero, rates)
    const steps: number[] = []
    const training = performance.now()
    await trainBlock(plan, vector, { x, y }, weights, {
      ...{ epochs: 1, schedule, optimizer, samples: STEPS, session },
      onProgress: () => void steps.push(performance.now()),
    })
    const step = (steps.at(-1)! - steps[0]!) / (STEPS - 1)
    // Rounding twice, three compilations, and the first step's surplus.
    const surplus = Math.max(0, steps[0]! - training - step)
    return {
      fixed: 3 * (folded - started) + surplus + 3 * (marks[0]! - folded),
      forward: (marks.at(-1)! - marks[0]!) / (STEPS - 1),
      step,
    }
  } finally {
    x.remove()
    y.remove()
  }
}
