/** @file Runs all blocks in order and keeps each on disk when it is finished, so that a run that ended early goes on after the last one. */

import type { Calibration } from '../calibration/calibrate.ts'
import { runsFor } from '../decoder/feeds.ts'
import type { SourceWatch } from '../files/digest.ts'
import type { WorkFolder } from '../files/work-folder.ts'
import type { Analysis } from './find/analysis.ts'
import { embed } from './learn/embed.ts'
import { type FinishedBlock, type ReadBlock, readBlock, type StoredBlock, storedBlock } from './learn/finished-block.ts'
import { lookaheadNotes, objectiveFor } from './learn/objective.ts'
import { learnBlock } from './learn/learn-block.ts'
import { calibrates } from './learn/learnables.ts'
import { replayBlock } from './learn/replay-block.ts'
import { loadParameters } from './learn/replay.ts'
import { roundBlock } from './learn/round-block.ts'
import type { Checkpoint, TrainingState } from './learn/train-block.ts'
import type { FinishedOuter } from './learn/learn-outer.ts'
import type { BlockPlan } from './plan/block-plan.ts'
import { blockPlanner } from './plan/block-planner.ts'
import { blockName, finishedBefore, trainingName } from './resume.ts'
import type { EmbeddingJob } from './plan/plan-embeddings.ts'
import { learnOuters, needsStates, replayOuters } from './run-outer.ts'
import { calibrationOf } from './run-calibration.ts'
import { StateFiles } from './state-files.ts'
import type { Run } from './terms/options.ts'

export interface QuantizedBlocks {
  readonly blocks: readonly ReadBlock[]
  /** lm_head and embeddings, in the order of the jobs. */
  readonly outer: readonly FinishedOuter[]
  /** Text of the run, where it needed one. */
  readonly calibration?: Calibration
  readonly notes: readonly string[]
}

const CHECKPOINT_MS = 20_000

/** Files a run reads. */
export interface Sources {
  /** Read until the end. */
  readonly model: SourceWatch
  /** Calibration text and learned parameters, which are read once. They must be those of the signature. */
  readonly inputs: SourceWatch
}

/**
 * Quantizes the blocks that are not finished yet, and learns the clipping of lm_head and embeddings.
 * @throws what learning or rounding a block throws; finished blocks stay.
 */
export async function runBlocks(
  options: Run,
  analysis: Analysis,
  jobs: readonly EmbeddingJob[],
  work: WorkFolder,
  sources: Sources,
): Promise<QuantizedBlocks> {
  const { blocks } = analysis
  const planOf = blockPlanner(options, analysis)
  const context = { method: options, blocks: blocks.length }
  const finished: ReadBlock[] = []
  /** Writes a finished block to the work folder. Its arrays are read from there from then on. */
  const keep = (block: FinishedBlock, durable: boolean) =>
    work.write(blockName(block.plan.block.index), storedBlock(block), durable)
  const take = (plan: BlockPlan, resumed: boolean) => {
    const block = readBlock(plan, work.read(blockName(plan.block.index)) as StoredBlock)
    finished.push(block)
    options.onEvent?.({ type: 'blockDone', report: block.report, blocks: blocks.length, resumed })
  }
  const done = finishedBefore(work, blocks.length)
  for (const block of blocks.slice(0, done)) take(planOf(block), true)
  const rest = blocks.slice(done)

  if (!calibrates(options)) {
    const { params } = options
    const replay = params === undefined ? undefined : loadParameters(params, options, blocks.length, jobs)
    sources.inputs.check()
    for (const block of rest) {
      sources.model.check()
      const plan = planOf(block)
      const learned = replay?.block(plan)
      const result = learned ? await replayBlock(plan, { ...context, learned }) : roundBlock(plan, context)
      // Rounding again takes less time than waiting for the disk.
      keep(result, false)
      take(plan, false)
    }
    const notes = params === undefined ? [] : [`learned parameters from ${params}`]
    return { blocks: finished, outer: replayOuters(jobs, replay), notes }
  }

  const { learning: calibration } = await calibrationOf(options, analysis, work, sources.inputs)
  const files = new StateFiles(work, runsFor(analysis.io, calibration.samples), blocks[0]!, options.hiddenStates)
  try {
    if (rest.length > 0 || needsStates(options, jobs, work))
      await files.begin(done, store => embed(analysis, calibration, store))
    for (const block of rest) {
      sources.model.check()
      const plan = planOf(block)
      const { index } = block
      const checkpoint = checkpointIn(work, trainingName(index), options.checkpointMs ?? CHECKPOINT_MS)
      const result = await learnBlock(plan, {
        ...context,
        states: files.around(index),
        checkpoint,
        objective: objectiveFor(options, analysis, index),
      })
      files.sync()
      keep({ ...result, report: { ...result.report, device: options.session.device ?? 'cpu' } }, true)
      work.forget(trainingName(index))
      files.advance()
      take(plan, false)
    }
    sources.model.check()
    const outer = await learnOuters(options, analysis, jobs, work, files.quantized)
    const notes = [...calibration.notes, ...lookaheadNotes(options, analysis)]
    return { blocks: finished, outer, calibration, notes }
  } finally {
    files.close()
  }
}

/** Checkpoint of a block's training, as a record of the work folder. */
const checkpointIn = (work: WorkFolder, name: string, everyMs: number): Checkpoint => ({
  everyMs,
  load: () => (work.has(name) ? (work.read(name) as TrainingState) : undefined),
  save: state => work.write(name, state, false),
})
