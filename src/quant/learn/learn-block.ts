/** @file Learns a block: targets of the float block, training, and the better of learned and rounded. */

import { QuantError } from '../../errors.ts'
import { option } from '../../option-mark.ts'
import { staticShape } from '../../graph/shape.ts'
import { findExperts } from '../find/experts.ts'
import type { Linear } from '../find/linears.ts'
import { checkStates } from '../find/sound-numbers.ts'
import { affineSites } from '../plan/affine-sites.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import type { Method } from '../terms/options.ts'
import { ROUNDINGS } from '../terms/roundings.ts'
import { type BlockContext, progressOf } from './block-context.ts'
import { type BlockVersion, floatVersion, readWeights } from './block-version.ts'
import { ChannelRanges } from './channel-ranges.ts'
import { type FinishedBlock, finishBlock, type Learning } from './finished-block.ts'
import { foldBlock, type Folded } from './fold-block.ts'
import { average, type HiddenStates } from './hidden-states.ts'
import { groupsOfReaders } from './input-moments.ts'
import { differsFromRounded, learns, observedValues } from './learnables.ts'
import type { Learned } from './learned.ts'
import { linearErrors } from './linear-errors.ts'
import { lossCurve } from './loss-curve.ts'
import type { Objective } from './objective.ts'
import { type BlockRun, runBlock } from './run-block.ts'
import { solveRounding } from './solve-rounding.ts'
import { startBlock } from './start-block.ts'
import { rarelyUsed, TokenCounts } from './token-counts.ts'
import { type Checkpoint, trainBlock } from './train-block.ts'

export interface LearnContext extends BlockContext {
  readonly states: HiddenStates
  /** Absent: the error of the block's own output. */
  readonly objective?: Objective | undefined
  /** Place where learning that was cut off goes on from. */
  readonly checkpoint?: Checkpoint | undefined
}

/** Most work besides training that `learnBlock` has with a block; choose-effort.ts plans time with it. */
export interface BlockWork {
  /** Runs of the block over all samples. Each compiles the block once. */
  readonly forwards: number
  /** Quantizations of all its weights. */
  readonly folds: number
}

/**
 * Most work of `learnBlock`: targets (once more for augmented ones), then the rounded and the learned block, and the rounded one again
 * where that was better. Fixed ranges of activations are observed twice before, and inputs that weigh errors once. The choice of matrices
 * quantizes the weights once more, and runs the block on few samples. GPTQ runs the block for each value that linears read.
 */
export function workOf(plan: BlockPlan, { augLoss, scheme, rounding }: WorkOptions): BlockWork {
  const { ranges, codes } = ROUNDINGS[rounding]
  const observed = scheme.activations?.kind === 'static' ? 2 : 0
  const weighed = ranges === 'weighted' ? 1 : 0
  const solved = codes === 'gptq' ? groupsOfReaders(plan, [...plan.quantizers.keys()]).length : 0
  const chosen = affineSites(plan).length > 0 ? 1 : 0
  return { forwards: (augLoss ? 5 : 4) + observed + weighed + solved + chosen, folds: 3 + observed + chosen }
}

type WorkOptions = Pick<Method, 'augLoss' | 'scheme' | 'rounding'>

/** A block that can ship, with its loss on the calibration samples. */
interface Candidate {
  readonly folded: Folded
  readonly learned: Learned | undefined
  readonly loss: number
  /** Errors of the linears' outputs, for the report. */
  readonly errors: ReadonlyMap<Linear, number>
}

/**
 * Learns the block's parameters, keeps them if they beat rounding to nearest, and writes the hidden states after the block.
 * @throws E_UNSUPPORTED when the float or the rounded block gives NaN or infinite numbers; the reason of an abort.
 */
export async function learnBlock(plan: BlockPlan, context: LearnContext): Promise<FinishedBlock> {
  const started = performance.now()
  progressOf(context, plan, 'rounding')(0, 1)
  const { method, states, checkpoint } = context
  const { session, epochs, schedule, optimizer = 'adamw', augLoss } = method
  const { quantized, nextFloat, nextQuantized } = states
  const weights = readWeights(plan.block)
  const { ranges, counts } = await runTargets(plan, context, floatVersion(weights))
  const { few: fewTokens, linears: frozen } = rarelyUsed(plan, counts)
  const observing = progressOf(context, plan, 'targets')
  const { start, vector, rounded } = await startBlock(plan, { method, frozen, ranges, weights }, quantized, observing)

  /** Folds the block and runs it on the hidden states of the quantized model; `keep` writes what comes out. */
  const tryOut = async (learned: Learned | undefined, keep: boolean): Promise<Candidate> => {
    const folded = await foldBlock(plan, weights, learned, session)
    const run: BlockRun = { from: quantized, to: keep ? nextQuantized : undefined, target: nextFloat }
    const loss = await runBlock(plan, folded.version, run, session, progressOf(context, plan, 'outputs'))
    const errors = await linearErrors(plan, weights, learned, folded, quantized, session)
    return { folded, learned, loss, errors }
  }
  const finish = ({ folded, learned }: Candidate, learning: Learning) =>
    finishBlock(plan, folded, learned, learning, started)

  if (!differsFromRounded(plan, start)) {
    const candidate = await tryOut(rounded, true)
    checkRounded(plan, method, candidate.loss)
    return finish(candidate, { roundedLoss: candidate.loss, errors: { rounded: candidate.errors } })
  }
  const targets = augLoss ? nextQuantized : nextFloat
  const { parameters, rollbacks, losses } = await trainBlock(plan, vector, { x: quantized, y: targets }, weights, {
    epochs: learns(method) ? epochs : 0,
    schedule,
    optimizer,
    samples: quantized.samples,
    session,
    objective: context.objective,
    checkpoint,
    onProgress: progressOf(context, plan, 'learning'),
  })
  // Only the loss is kept of the first: a folded block is as large as its float weights.
  const { loss: roundedLoss, errors: roundedErrors } = await tryOut(rounded, false)
  const solving = progressOf(context, plan, 'outputs')
  const best = await tryOut(await solveRounding(plan, start, { vector, parameters }, quantized, solving), true)
  const isSound = best.folded.unsound === undefined && Number.isFinite(best.loss)
  // A rounded loss that is NaN is never the better one.
  const kept = isSound && !(roundedLoss <= best.loss) ? 'learned' : 'rounded'
  const learning: Learning = {
    roundedLoss,
    learnedLoss: best.loss,
    kept,
    losses: lossCurve(losses, quantized.samples),
    errors: { rounded: roundedErrors, learned: best.errors },
    ...(rollbacks.length > 0 && { rollbacks }),
    ...(fewTokens && { fewTokens }),
  }
  if (kept === 'learned') return finish(best, learning)
  checkRounded(plan, method, roundedLoss)
  return finish(await tryOut(rounded, true), learning)
}

/**
 * Writes the float block's outputs as targets, and measures its activations. With the augmented loss, its outputs for inputs from the
 * quantized model are read too: targets are then the mean of both, in `nextQuantized`.
 */
async function runTargets(
  plan: BlockPlan,
  context: LearnContext,
  original: BlockVersion,
): Promise<{ readonly ranges: ChannelRanges; readonly counts: TokenCounts }> {
  const { method, states } = context
  const { float, quantized, nextFloat, nextQuantized } = states
  const { index, output } = plan.block
  const ranges = new ChannelRanges(observedValues(plan, method))
  const counts = new TokenCounts(findExperts(plan.block))
  const observers = [...ranges.observers, ...counts.observers]
  const progress = progressOf(context, plan, 'targets')
  const check = (y: Float32Array, sample: number) =>
    checkStates(y, staticShape(output).at(-1)!, sample, `after block ${index}`, method.hiddenStates)
  await runBlock(plan, original, { from: float, to: nextFloat, observers, check }, method.session, progress)
  if (method.augLoss) {
    await runBlock(plan, original, { from: quantized, to: nextQuantized, check }, method.session, progress)
    average(nextFloat, nextQuantized)
  }
  return { ranges, counts }
}

/** Refuses a block that works in float and not when it is rounded: its activations are near the largest float32. */
function checkRounded({ block: { index } }: BlockPlan, { hiddenStates }: Method, loss: number): void {
  if (Number.isFinite(loss)) return
  throw new QuantError(
    'E_UNSUPPORTED',
    `block ${index} gives NaN or infinite numbers once it is quantized`,
    `Its numbers are too large for ${hiddenStates} to hold their errors. Leave it as it is, with --ignore layers.${index}` +
      (hiddenStates === 'float16' ? `, or leave out ${option('hiddenStates', 'float16')}.` : '.'),
  )
}
