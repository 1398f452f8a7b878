/** @file All blocks, one after the other, each kept on disk when it is finished: a run that ends early goes on after the last one. */

import { runsFor } from '../decoder/model-io.ts'
import type { SourceWatch } from '../files/digest.ts'
import type { WorkFolder } from '../files/work-folder.ts'
import type { Analysis } from './find/analysis.ts'
import { BlockStreams } from './hidden-states.ts'
import { BlockJob } from './learn/block-job.ts'
import { calibrate, type Calibration } from './learn/calibrate.ts'
import { embed } from './learn/embed.ts'
import type { FinishedBlock, StoredBlock } from './learn/finished-block.ts'
import { namedParameters } from './learn/learned.ts'
import { loadParameters } from './learn/replay.ts'
import type { TrainingState } from './learn/train-block.ts'
import type { BlockPlan } from './plan/block-plan.ts'
import { blockName, finishedBefore, trainingName } from './resume.ts'
import { learns, type Run } from './terms/options.ts'

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

/** Quantizes the blocks that are not finished yet. @throws whatever a block's job throws; finished blocks stay. */
export async function runBlocks(
  options: Run,
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
  options: Run,
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
