/** @file What happens to one block after the other: plan, learn, keep what helps, hand the streams on to the next. */

import type { OptimizerName } from '../autodiff/optimizer.ts'
import type { ActivationStore } from '../calibration/activation-store.ts'
import { QuantError } from '../errors.ts'
import { staticShape } from '../graph/shape.ts'
import { readElements } from '../graph/tensor.ts'
import type { SessionOptions, Tensors } from '../kernels/session.ts'
import type { Block } from './blocks.ts'
import { findExperts, rarelyUsed, TokenCounts } from './experts.ts'
import type { Mapping } from './mappings/mappings.ts'
import { type OtherBranch, planBranches } from './branches.ts'
import type { BlockPlan, PlanOptions } from './plan.ts'
import { biasName, constantName } from './programs.ts'
import {
  blockParameters,
  floatVersion,
  foldBlock,
  type Folded,
  type Learned,
  readWeights,
  roundBlock,
  runBlock,
} from './quantize-block.ts'
import type { BlockReport, OnEvent, QuantizeEvent } from './report.ts'
import type { QuantScheme } from './scheme.ts'
import { checkStates } from './sound-numbers.ts'
import { ChannelRanges, initialEquivalence, observedValues } from './smooth.ts'
import { type Checkpoint, type Schedule, trainBlock } from './train-block.ts'
import { type WeightRules, type WeightSchemeOf, weightSchemeOf } from './weight-rules.ts'

/** What is learned, and how. */
export interface Method extends WeightRules {
  readonly scheme: QuantScheme
  /** Learn the clipping of weights. */
  readonly lwc: boolean
  /** Learn equivalent transformations; by default when activations are quantized. */
  readonly let?: boolean | undefined
  /** Make no transformation that scales the KV cache, so that other files of the model can read it. */
  readonly keepCache?: boolean | undefined
  readonly epochs: number
  /** Of the clipping, at the first step. */
  readonly learningRate: number
  /** Of the transformations; by default half of the other (arXiv 2308.13137 section 4.1: 5e-3 and 1e-2). */
  readonly letLearningRate?: number | undefined
  readonly schedule: Schedule
  /** Default: adamw. */
  readonly optimizer?: OptimizerName | undefined
  /** How much of the difficulty moves from activations to weights at the start, 0 to 1 (default 0.5). */
  readonly alpha?: number | undefined
  /** Aim at the middle between the float block's outputs for float and for quantized inputs. */
  readonly augLoss?: boolean | undefined
  /** Chooses among the transformations that were found; by default all of them. */
  readonly selectMappings?: ((mappings: readonly Mapping[]) => readonly Mapping[]) | undefined
  readonly session: SessionOptions
  readonly onEvent?: OnEvent | undefined
  /** Ends the run between two programs. */
  readonly signal?: AbortSignal | undefined
}

/** Whether transformations are learned. */
export const learnsEquivalence = (method: Method): boolean => method.let ?? method.scheme.activations !== undefined

/** Hidden states on disk, of the float model and of the quantized one: where the block begins, and where it ends. */
export interface Streams {
  readonly float: ActivationStore
  readonly quantized: ActivationStore
  readonly nextFloat: ActivationStore
  readonly nextQuantized: ActivationStore
}

/** A block as it will ship: only what has to be kept until the file is written. */
export interface FinishedBlock {
  readonly plan: BlockPlan
  /** One per linear of the block, in order; undefined for those that stay float. */
  readonly packed: Folded['packed']
  /** New values of plan.changedSites, in order; none where nothing was learned. */
  readonly constants: readonly Float32Array[]
  /** Of plan.addedBiases, likewise. */
  readonly biases: readonly Float32Array[]
  /** What was learned, where that was kept. */
  readonly learned: Learned | undefined
  readonly report: BlockReport
}

/** Where the parameters of a block come from when they are not learned now; undefined for a block that is rounded. */
export type Replay = (plan: BlockPlan) => Learned | undefined

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
        let: learnsEquivalence(this.method),
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
    const { session, epochs, schedule, optimizer = 'adamw', alpha = 0.5, lwc, learningRate } = this.method
    const { letLearningRate = learningRate / 2, augLoss } = this.method
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
    'Give the file and the model it was saved with, or learn again without --params.',
  )

/** Refuses a block that works as it is and not when it is rounded: its activations lie at the end of what float32 can hold. */
function checkRounded({ index }: Block, loss: number): void {
  if (Number.isFinite(loss)) return
  throw new QuantError(
    'E_UNSUPPORTED',
    `block ${index} gives NaN or infinite numbers once it is quantized`,
    `Its numbers are too large for float32 to hold their errors. Leave it as it is, with --ignore layers.${index}.`,
  )
}

/** into = (a + into) / 2, sample by sample. */
function average(a: ActivationStore, into: ActivationStore): void {
  for (let i = 0; i < a.samples; i++) {
    const other = a.read(i, 1)
    into.write(
      i,
      into.read(i, 1).map((x, j) => (x + other[j]!) / 2),
    )
  }
}
