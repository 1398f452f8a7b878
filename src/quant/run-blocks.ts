/** @file All blocks, one after the other, each kept on disk when it is finished: a run that ends early goes on after the last one. */

import { ActivationStore } from '../calibration/activation-store.ts'
import { runsFor } from '../calibration/model-io.ts'
import type { WorkFolder } from '../files/work-folder.ts'
import { staticShape } from '../graph/shape.ts'
import type { Analysis } from './analyze.ts'
import { BlockJob, type FinishedBlock, learnsEquivalence, type Streams } from './block-job.ts'
import type { Block } from './blocks.ts'
import { type Calibration, calibrate } from './calibrate.ts'
import { embed } from './embed.ts'
import type { BlockPlan } from './plan.ts'
import type { QuantizeOptions } from './quantize-model.ts'
import { loadParameters, namedParameters, type NamedParameter } from './replay.ts'
import { blockName, finishedBefore, padded, trainingName } from './resume/progress.ts'
import type { SourceWatch } from './resume/signature.ts'
import type { TrainingState } from './train-block.ts'

/** A finished block as it lies in the work folder: its weights are ranges of a file there. */
export interface StoredBlock extends Pick<FinishedBlock, 'packed' | 'constants' | 'biases' | 'report'> {
  readonly parameters: readonly NamedParameter[]
}

export interface QuantizedBlocks {
  readonly blocks: readonly (StoredBlock & { readonly plan: BlockPlan })[]
  readonly notes: readonly string[]
}

const CALIBRATION = 'calibration'
const CHECKPOINT_MS = 20_000

/** Files a run reads. */
export interface Sources {
  /** Read until the end. */
  readonly model: SourceWatch
  /** Calibration text and learned parameters, which are read once: they must be what the signature says. */
  readonly inputs: SourceWatch
}

/** Whether anything is learned, which needs calibration samples. */
export const learns = (options: QuantizeOptions): boolean =>
  options.params === undefined && (options.lwc || learnsEquivalence(options))

/** Quantizes the blocks that are not finished yet. @throws whatever a block's job throws; finished blocks stay. */
export async function runBlocks(
  options: QuantizeOptions,
  analysis: Analysis,
  work: WorkFolder,
  sources: Sources,
): Promise<QuantizedBlocks> {
  const { blocks } = analysis
  const job = new BlockJob(options, blocks.length, analysis)
  const finished: (StoredBlock & { readonly plan: BlockPlan })[] = []
  /** Keeps what a block became, and has its arrays from the disk from then on. */
  const keep = ({ plan, learned, ...rest }: FinishedBlock, durable: boolean) => {
    const stored: StoredBlock = { ...rest, parameters: learned ? namedParameters(learned) : [] }
    work.write(blockName(plan.block.index), stored, durable)
  }
  const take = (plan: BlockPlan, resumed: boolean) => {
    const stored = work.read(blockName(plan.block.index)) as StoredBlock
    finished.push({ ...stored, plan })
    options.onEvent?.({ type: 'blockDone', report: stored.report, blocks: blocks.length, resumed })
  }
  const done = finishedBefore(work, blocks.length)
  for (const block of blocks.slice(0, done)) take(job.plan(block), true)
  const rest = blocks.slice(done)

  if (!learns(options)) {
    const { params } = options
    const replay = params === undefined ? undefined : loadParameters(params, options, blocks.length)
    sources.inputs.check()
    for (const block of rest) {
      sources.model.check()
      const plan = job.plan(block)
      // Made again in no time: not worth waiting for the disk.
      keep(await job.run(plan, replay), false)
      take(plan, false)
    }
    return { blocks: finished, notes: params === undefined ? [] : [`learned parameters from ${params}`] }
  }

  const calibration = await calibrationOf(options, analysis, work, sources.inputs)
  const streams = new BlockStreams(work, runsFor(analysis.io, calibration.samples), blocks[0]!)
  try {
    if (rest.length > 0) await streams.begin(done, store => embed(analysis, calibration, store))
    for (const block of rest) {
      sources.model.check()
      const plan = job.plan(block)
      const { index } = block
      const name = trainingName(index)
      const result = await job.run(plan, streams.around(index), {
        everyMs: options.checkpointMs ?? CHECKPOINT_MS,
        load: () => (work.has(name) ? (work.read(name) as TrainingState) : undefined),
        save: state => work.write(name, state, false),
      })
      streams.sync()
      keep(result, true)
      work.forget(name)
      streams.advance()
      take(plan, false)
    }
  } finally {
    streams.close()
  }
  return { blocks: finished, notes: calibration.notes }
}

/** The tokens of the run: those it began with, if it began before. */
async function calibrationOf(
  options: QuantizeOptions,
  analysis: Analysis,
  work: WorkFolder,
  inputs: SourceWatch,
): Promise<Calibration> {
  if (!work.has(CALIBRATION)) {
    const calibration = await calibrate(analysis, options)
    inputs.check()
    work.write(CALIBRATION, calibration)
  }
  return work.read(CALIBRATION) as Calibration
}

const fileName = (kind: 'float' | 'quantized', index: number): string => `${kind}-${padded(index)}.f32`

/** The files of hidden states between blocks: those before a block stay until it is finished. */
class BlockStreams {
  private readonly work: WorkFolder
  private readonly samples: number
  private readonly dims: readonly number[]
  private stores: { float: ActivationStore; quantized: ActivationStore } | undefined
  private next: { float: ActivationStore; quantized: ActivationStore } | undefined

  constructor(work: WorkFolder, samples: number, first: Block) {
    this.work = work
    this.samples = samples
    this.dims = staticShape(first.input)
  }

  private store(kind: 'float' | 'quantized', index: number, existing: boolean): ActivationStore {
    return new ActivationStore(this.work.file(fileName(kind, index)), this.samples, this.dims, existing)
  }

  /** Opens the states before block `index`; those before the first are made by `embed`, and the same for both models. */
  async begin(index: number, embed: (store: ActivationStore) => Promise<void>): Promise<void> {
    // Whatever else is there was being written when an earlier run ended.
    this.work.removeAllBut([fileName('float', index), fileName('quantized', index)])
    const float = this.store('float', index, index > 0)
    this.stores = { float, quantized: index > 0 ? this.store('quantized', index, true) : float }
    if (index === 0) await embed(float)
  }

  /** Streams for block `index`, the next one in order. */
  around(index: number): Streams {
    this.next = {
      float: this.store('float', index + 1, false),
      quantized: this.store('quantized', index + 1, false),
    }
    return { ...this.stores!, nextFloat: this.next.float, nextQuantized: this.next.quantized }
  }

  /** Waits until what is behind the block is on the disk. */
  sync(): void {
    this.next!.float.sync()
    this.next!.quantized.sync()
  }

  /** Steps behind the block; what was before it goes. */
  advance(): void {
    for (const store of new Set(Object.values(this.stores!))) store.remove()
    this.stores = this.next
    this.next = undefined
  }

  close(): void {
    for (const store of [...Object.values(this.stores ?? {}), ...Object.values(this.next ?? {})]) store.close()
  }
}
