/** @file What happens to one block after the other: plan, learn, keep what helps, hand the streams on to the next. */

import { option } from '../../option-mark.ts'
import type { ActivationStore } from '../../calibration/activation-store.ts'
import { QuantError } from '../../errors.ts'
import { staticShape } from '../../graph/shape.ts'
import { readElements } from '../../graph/tensor.ts'
import type { Tensors } from '../../kernels/session.ts'
import type { Block } from '../find/blocks.ts'
import { findExperts } from '../find/experts.ts'
import type { OtherBranch } from '../find/other-branch.ts'
import { checkStates } from '../find/sound-numbers.ts'
import type { BlockPlan, PlanOptions } from '../plan/block-plan.ts'
import { planBranches } from '../plan/plan-branches.ts'
import { type WeightSchemeOf, weightSchemeOf } from '../plan/weight-rules.ts'
import type { Method } from '../terms/options.ts'
import type { BlockReport, QuantizeEvent } from '../terms/report.ts'
import { floatVersion, readWeights } from './block-version.ts'
import { ChannelRanges, observedValues } from './channel-ranges.ts'
import type { FinishedBlock } from './finished-block.ts'
import { foldBlock, type Folded } from './fold-block.ts'
import { initialEquivalence } from './initial-equivalence.ts'
import { blockParameters, type Learned, type Replay } from './learned.ts'
import { biasName, constantName } from './ports.ts'
import { roundBlock } from './round-block.ts'
import { runBlock } from './run-block.ts'
import { average, type Streams } from './streams.ts'
import { rarelyUsed, TokenCounts } from './token-counts.ts'
import { type Checkpoint, trainBlock } from './train-block.ts'

type Phase = (QuantizeEvent & { type: 'block' })['phase']

type Learning = Omit<BlockReport, 'index' | 'linears' | 'mappings' | 'elapsedMs'>

/** What plans need to know of the user's graph (Analysis has it). */
export interface UserGraph extends Pick<PlanOptions, 'values' | 'leaving'> {
  readonly otherBranch?: OtherBranch | undefined
}

export class BlockJob {
  private readonly method: Method
  private readonly weightSchemeOf: WeightSchemeOf
  private readonly blocks: number
  private readonly graph: UserGraph

  /** @param blocks how many there are. */
  constructor(method: Method, blocks: number, graph: UserGraph) {
    this.method = method
    this.weightSchemeOf = weightSchemeOf(method.scheme.weights, method)
    this.blocks = blocks
    this.graph = graph
  }

  private progress(block: Block, phase: Phase): (done: number, total: number, loss?: number) => void {
    const { onEvent, signal } = this.method
    return (done, total, loss) => {
      signal?.throwIfAborted()
      onEvent?.({ type: 'block', index: block.index, blocks: this.blocks, phase, done, total, loss })
    }
  }

  plan(block: Block): BlockPlan {
    const { scheme, selectMappings, keepCache } = this.method
    const { values, leaving, otherBranch } = this.graph
    return planBranches(
      block,
      {
        scheme,
        let: this.method.let,
        values,
        leaving: leaving && keepCache ? { ...leaving, mayChange: new Set() } : leaving,
        weightSchemeOf: this.weightSchemeOf,
        select: selectMappings,
      },
      otherBranch,
    )
  }

  /**
   * Quantizes one block. With streams, whose ends it writes, it is learned; with a function it is replayed; with neither it is
   * rounded to nearest.
   * @param checkpoint where learning that was cut off goes on from.
   */
  async run(plan: BlockPlan, source: Streams | Replay | undefined, checkpoint?: Checkpoint): Promise<FinishedBlock> {
    const started = performance.now()
    const { block } = plan
    this.progress(block, 'rounding')(0, 1)
    const { session } = this.method
    let result: { folded: Folded; learned: Learned | undefined; learning: Learning }
    if (typeof source === 'object') result = await this.learn(plan, readWeights(block), source, checkpoint)
    else {
      const learned = source?.(plan)
      const folded = learned
        ? await foldBlock(plan, readWeights(block), learned, session)
        : { packed: roundBlock(plan), feeds: {}, transformed: false, quantized: true }
      if (learned && folded.unsound) throw badParameters(block, folded.unsound)
      result = { folded, learned, learning: {} }
    }
    const report: BlockReport = {
      index: block.index,
      linears: [...plan.quantizers.keys()].map(({ name }) => name),
      mappings: plan.mappings.map(({ name }) => name),
      ...result.learning,
      elapsedMs: Math.round(performance.now() - started),
    }
    const { folded, learned } = result
    const values = (names: readonly string[]) =>
      folded.transformed ? names.map(name => readElements(folded.feeds[name]!) as Float32Array) : []
    return {
      ...{ plan, packed: folded.packed, learned, report },
      constants: values(plan.changedSites.map((_, j) => constantName(j))),
      biases: values(plan.addedBiases.map((_, j) => biasName(j))),
    }
  }

  /** Learns the block's parameters, keeps them if they beat rounding to nearest, and takes the streams through the block. */
  private async learn(
    plan: BlockPlan,
    weights: Tensors,
    { float, quantized, nextFloat, nextQuantized }: Streams,
    checkpoint: Checkpoint | undefined,
  ): Promise<{ folded: Folded; learned: Learned | undefined; learning: Learning }> {
    const { session, epochs, schedule, optimizer, alpha, lwc, learningRate, letLearningRate, augLoss } = this.method
    const progress = (phase: Phase) => this.progress(plan.block, phase)
    const original = floatVersion(weights)
    const ranges = new ChannelRanges(observedValues(plan))
    const counts = new TokenCounts(findExperts(plan.block))
    const { index, output } = plan.block
    const check = (y: Float32Array, sample: number) =>
      checkStates(y, staticShape(output).at(-1)!, sample, `after block ${index}`)
    await runBlock(plan, original, { from: float, to: nextFloat, ranges, counts, check }, session, progress('targets'))
    if (augLoss) {
      await runBlock(plan, original, { from: quantized, to: nextQuantized, check }, session, progress('targets'))
      average(nextFloat, nextQuantized)
    }
    const { few: fewTokens, linears: held } = rarelyUsed(plan, counts)
    const vector = blockParameters(plan, initialEquivalence(plan, ranges, weights, alpha), {
      clipRate: lwc ? learningRate : undefined,
      equivalenceRate: letLearningRate,
      held,
    })
    const run = (candidate: Folded, to?: ActivationStore) =>
      runBlock(plan, candidate, { from: quantized, to, target: nextFloat }, session, progress('outputs'))
    const round = () => foldBlock(plan, weights, undefined, session)
    if (vector.size === 0) {
      const folded = await round()
      const roundedLoss = await run(folded, nextQuantized)
      checkRounded(plan.block, roundedLoss)
      return { folded, learned: undefined, learning: { roundedLoss } }
    }
    const targets = augLoss ? nextQuantized : nextFloat
    const settings = { epochs, schedule, optimizer, samples: float.samples, session, checkpoint }
    const { parameters, rollbacks } = await trainBlock(plan, vector, { x: quantized, y: targets }, weights, {
      ...settings,
      onProgress: progress('learning'),
    })
    const learned = { vector, parameters }
    // One after the other: a folded block is as large as its float weights.
    const roundedLoss = await run(await round())
    const folded = await foldBlock(plan, weights, learned, session)
    const learnedLoss = await run(folded, nextQuantized)
    // Losses may be NaN: what is no number is never the better one.
    const isSound = folded.unsound === undefined && Number.isFinite(learnedLoss)
    const kept = isSound && !(roundedLoss <= learnedLoss) ? 'learned' : 'rounded'
    const learning: Learning = {
      ...{ roundedLoss, learnedLoss, kept },
      ...(rollbacks.length > 0 && { rollbacks }),
      ...(fewTokens && { fewTokens }),
    }
    if (kept === 'learned') return { folded, learned, learning }
    checkRounded(plan.block, roundedLoss)
    const rounded = await round()
    await run(rounded, nextQuantized)
    return { folded: rounded, learned: undefined, learning }
  }
}

const badParameters = ({ index }: Block, what: string): QuantError =>
  new QuantError(
    'E_PARAMETERS',
    `the learned parameters of block ${index} do not fit its weights: ${what}`,
    `Give the file and the model it was saved with, or learn again without ${option('params')}.`,
  )

/** Refuses a block that works as it is and not when it is rounded: its activations lie at the end of what float32 can hold. */
function checkRounded({ index }: Block, loss: number): void {
  if (Number.isFinite(loss)) return
  throw new QuantError(
    'E_UNSUPPORTED',
    `block ${index} gives NaN or infinite numbers once it is quantized`,
    `Its numbers are too large for float32 to hold their errors. Leave it as it is, with ${option('ignore', `layers.${index}`)}.`,
  )
}
