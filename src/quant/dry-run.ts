/** @file A run that is not made: size, memory, disk and time of it, for `inspect` with a scheme. */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sizeBytes } from '../graph/tensor.ts'
import { modelSizeBytes } from '../graph/onnx-file/model-files.ts'
import { withinCores } from '../kernels/threads.ts'
import { option } from '../option-mark.ts'
import { spaceNeeds } from './check-room.ts'
import { roundingFor } from './default-rounding.ts'
import { checkFormat } from './export/check-format.ts'
import type { Analysis } from './find/analysis.ts'
import { analyze } from './find/analyze.ts'
import { findEmbeddings } from './find/embeddings.ts'
import { weightCount } from './find/linears.ts'
import { foretell, storedBitsNotes } from './foretell.ts'
import { idleNotes } from './idle-options.ts'
import type { DryRun } from './inspected.ts'
import { blockMs, withinSteps, stepsForWork } from './learn/effort.ts'
import { learns } from './learn/learnables.ts'
import { measureBlock } from './learn/measure-block.ts'
import { objectiveFor } from './learn/objective.ts'
import { blockPlanner } from './plan/block-planner.ts'
import { type EmbeddingPlan, planEmbeddings } from './plan/plan-embeddings.ts'
import { outerBytes } from './plan/size.ts'
import { planOfRun } from './run-plan.ts'
import { isRefused } from '../graph/refusal.ts'
import type { QuantizeOptions, ResolvedOptions } from './terms/options.ts'
import { resolveOptions } from './terms/resolve-options.ts'
import { ROUNDINGS } from './terms/roundings.ts'

/** Memory besides the blocks. */
const BASE_BYTES = 500 * 2 ** 20

/** Largest blocks that are in memory at a time, as float32 (docs/large-models.md). */
function memoryFactor({ rounding, optimizer, let: transformations }: ResolvedOptions): number {
  if (ROUNDINGS[rounding].codes === 'learned') return optimizer === 'sign-sgd' ? 12 : 19
  return transformations === false ? 3 : 6
}

function memoryBytes({ blocks }: Analysis, options: ResolvedOptions): number {
  const largest = Math.max(...blocks.map(({ linears }) => weightCount(linears)))
  return BASE_BYTES + memoryFactor(options) * 4 * largest
}

/** Part of the output from which on weights outside the blocks are worth a word. */
const LARGE_SHARE = 1 / 3

/** Bytes of lm_head and embeddings in the output, float or quantized. */
function outsideBytes(analysis: Analysis, outer: EmbeddingPlan, options: ResolvedOptions): number {
  const { lmHead, embeddings } = findEmbeddings(analysis)
  const found = [...(isRefused(lmHead) ? [] : [lmHead]), ...(isRefused(embeddings) ? [] : embeddings)]
  const floats = new Set(
    found.flatMap(({ weight }) => weight.tensor ?? []).filter(each => !outer.replaced.includes(each)),
  )
  return (
    [...floats].reduce((sum, tensor) => sum + sizeBytes(tensor), 0) +
    outer.jobs.reduce((sum, job) => sum + outerBytes(job, options), 0)
  )
}

/** Bits that are recommended for weights outside the blocks: with 2 much is lost. */
const FEW_BITS = 4

/** Fewer bits for lm_head and embedding, where they are a large part of the output. @param size bytes of the model. */
function adviceFor(analysis: Analysis, outer: EmbeddingPlan, options: ResolvedOptions, size: number): string[] {
  const { sizeAfter } = foretell(analysis, options, outer, size)
  const outside = outsideBytes(analysis, outer, options)
  const keys = (['lmHead', 'embedding'] as const).filter(key => (options[key] ?? Infinity) > FEW_BITS)
  if (outside < LARGE_SHARE * sizeAfter || keys.length === 0) return []
  const fewer = { ...options, lmHead: FEW_BITS, embedding: FEW_BITS, wherePossible: keys } as const
  const plan = planEmbeddings(analysis, fewer, options.scheme.weights.symmetric)
  const { sizeAfter: smaller } = foretell(analysis, fewer, plan, size)
  if (smaller >= sizeAfter) return []
  const share = (bytes: number) => `${Math.round((100 * bytes) / sizeAfter)} %`
  return [
    `lm_head and embedding are ${share(outside)} of the file: ${keys.map(key => option(key, FEW_BITS)).join(' ')} ` +
      `${keys.length === 1 ? 'makes' : 'make'} it ${share(sizeAfter - smaller)} smaller`,
  ]
}

/** Milliseconds of learning all blocks: the first one is tried with random inputs. */
async function measuredMs(analysis: Analysis, options: ResolvedOptions): Promise<number> {
  const { blocks } = analysis
  const folder = mkdtempSync(join(tmpdir(), 'omniquant-'))
  try {
    const plan = blockPlanner(options, analysis)(blocks[0]!)
    const objective = objectiveFor(options, analysis, 0)
    const times = await measureBlock(plan, options, { file: name => join(folder, name) }, { objective })
    return Math.round(blocks.length * blockMs(times, options.samples, options.epochs))
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Samples and epochs as the limit of work allows. */
function withinWork(options: ResolvedOptions, { blocks, seqLen }: Analysis): ResolvedOptions {
  const { maxWork } = options
  if (maxWork === undefined || !learns(options)) return options
  const all = weightCount(blocks.flatMap(({ linears }) => linears))
  return { ...options, ...withinSteps(options, stepsForWork(maxWork, all, seqLen)) }
}

/**
 * Room, memory and time that a run with these options would take. Writes nothing that stays.
 * @throws what `quantizeModel` throws before its first block, but for what it says of the output's place.
 */
export async function dryRun(given: QuantizeOptions): Promise<DryRun> {
  const resolved = resolveOptions(given)
  const { session, notes: threadNotes } = withinCores(resolved.session)
  const analysis = await analyze(resolved.model, resolved.seqLen, resolved.capSeqLen)
  const { rounding, notes: roundingNotes } = roundingFor(resolved, analysis.blocks)
  const options = withinWork({ ...resolved, rounding, session: { ...session, device: 'cpu' } }, analysis)
  const outer = planEmbeddings(analysis, options, options.scheme.weights.symmetric)
  checkFormat(analysis, options, outer)
  const size = modelSizeBytes(analysis.model)
  const foretold = foretell(analysis, options, outer, size)
  const folder = tmpdir()
  const place = { path: join(folder, 'model.onnx'), source: analysis.model.path! }
  const needs = spaceNeeds(analysis, options, outer, { path: folder, scratchBytes: 0, has: () => false }, place, size)
  const { scheme, target, storage, sizeAfter, calibration, learned, epochs, threads, notes } = planOfRun(
    analysis,
    options,
    foretold,
    { output: place.path, workDir: folder },
    size,
    [
      ...idleNotes(given, options),
      ...storedBitsNotes(foretold.storage, options.scheme),
      ...threadNotes,
      ...roundingNotes,
      ...outer.notes,
    ],
  )
  return {
    ...{ scheme, target, sizeAfter, storage, learned, epochs, threads },
    ...(calibration && { calibration }),
    memoryBytes: memoryBytes(analysis, options),
    diskBytes: needs.reduce((sum, { bytes }) => sum + bytes, 0),
    ...(learns(options) && { blocksMs: await measuredMs(analysis, options) }),
    advice: adviceFor(analysis, outer, options, size),
    notes,
  }
}
