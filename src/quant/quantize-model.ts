/** @file The method from end to end, block after block. The place to start reading. */

import { mkdirSync, mkdtempSync, readdirSync, rmdirSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { ActivationStore } from '../calibration/activation-store.ts'
import { messageOf, QuantError } from '../errors.ts'
import { saveModel } from '../graph/save.ts'
import { staticShape } from '../graph/shape.ts'
import { type Analysis, analyze } from './analyze.ts'
import { BlockJob, type FinishedBlock, learnsEquivalence, type Method, type Streams } from './block-job.ts'
import { type CalibrationOptions, calibrate } from './calibrate.ts'
import { embed } from './embed.ts'
import type { ExportOptions } from './export/linears.ts'
import { exportBlocks } from './export/blocks.ts'
import { exportOuter } from './export/outer-linears.ts'
import { copyCompanions, modelSizeBytes, type OutputPlan, planOutput } from './output.ts'
import { type OuterOptions, outerReports, planOuter } from './outer-linears.ts'
import { type BlockPlan, groupNotes, overrideNotes } from './plan.ts'
import { loadParameters, saveParameters } from './replay.ts'
import type { QuantizeReport, SkippedReport } from './report.ts'
import { schemeName } from './scheme.ts'
import { checkRules } from './weight-rules.ts'

export interface QuantizeOptions extends CalibrationOptions, Method, OuterOptions {
  /** An .onnx file, or a folder with one. */
  readonly model: string
  /** A folder, or a path ending in .onnx; by default `<name>-<scheme>.onnx` beside the model. */
  readonly output?: string
  readonly accuracyLevel: 0 | 4
  /** How linears whose activations are quantized are written (default: integer). */
  readonly format?: ExportOptions['format']
  /** Where what is learned goes, besides the model. */
  readonly saveParams?: string | undefined
  /** A file of learned parameters to use instead of learning. */
  readonly params?: string | undefined
}

/** Runs all blocks; activations live in a temporary folder beside the output. */
async function quantizeBlocks(
  options: QuantizeOptions,
  analysis: Analysis,
  output: OutputPlan,
): Promise<{ finished: FinishedBlock[]; notes: readonly string[] }> {
  const { blocks, values, otherBranch } = analysis
  const job = new BlockJob(options, blocks.length, values, otherBranch)
  const finished: FinishedBlock[] = []
  if (options.params !== undefined) {
    const replay = loadParameters(options.params, options, blocks.length)
    for (const block of blocks) finished.push(await job.run(block, replay))
    return { finished, notes: [`learned parameters from ${options.params}`] }
  }
  if (!options.lwc && !learnsEquivalence(options)) {
    for (const block of blocks) finished.push(await job.run(block, undefined))
    return { finished, notes: [] }
  }
  const calibration = await calibrate(analysis, options)
  const folder = workFolder(dirname(output.path))
  const stores: ActivationStore[] = []
  try {
    const { samples, notes } = calibration
    const open = () => {
      stores.push(new ActivationStore(folder.path, samples, staticShape(blocks[0]!.input)))
      return stores.at(-1)!
    }
    const streams: Streams = { float: open(), quantized: open(), spare: open() }
    await embed(analysis, calibration, streams.float)
    for (let i = 0; i < samples; i++) streams.quantized.write(i, streams.float.read(i, 1))
    for (const block of blocks) finished.push(await job.run(block, streams))
    return { finished, notes }
  } finally {
    for (const store of stores) store.close()
    folder.remove()
  }
}

/** A temporary folder beside the output; `remove` takes away folders made for it as well, as long as they are empty. */
function workFolder(parent: string): { path: string; remove: () => void } {
  try {
    const made = mkdirSync(parent, { recursive: true })
    const path = mkdtempSync(join(parent, '.omniquant-'))
    const remove = () => {
      rmSync(path, { recursive: true, force: true })
      if (made !== undefined) removeEmpty(parent, made)
    }
    return { path, remove }
  } catch (error) {
    throw new QuantError('E_OUTPUT', `cannot write to ${parent}: ${messageOf(error)}`, 'Choose another folder with -o.')
  }
}

/** Removes `folder` and the empty folders above it, up to and including `last`. */
function removeEmpty(folder: string, last: string): void {
  for (let current = folder; ; current = dirname(current)) {
    if (readdirSync(current).length > 0) return
    rmdirSync(current)
    if (current === last) return
  }
}

/** What went wrong while learning, where something did. */
function learningNotes(finished: readonly FinishedBlock[]): string[] {
  const blocks = (which: (report: FinishedBlock['report']) => boolean) =>
    finished.filter(({ report }) => which(report)).map(({ report }) => report.index)
  const diverged = blocks(({ rollbacks }) => rollbacks !== undefined)
  const useless = blocks(({ kept }) => kept === 'rounded')
  const list = (indices: readonly number[]) => `${indices.length === 1 ? 'block' : 'blocks'} ${indices.join(', ')}`
  return [
    ...(diverged.length > 0 ? [`learning diverged in ${list(diverged)} and was rolled back: lower --lr`] : []),
    ...(useless.length > 0
      ? [`learning did not help ${list(useless)}, rounded to nearest: other --lr or more samples`]
      : []),
  ]
}

/** What stays float in a block: what cannot be quantized, and what was not to be. */
function skippedIn({ block, quantizers }: BlockPlan): SkippedReport[] {
  const ignored = block.linears.filter(linear => !quantizers.has(linear))
  return [
    ...block.skipped.map(({ node, reason }) => ({ node: node.origin?.name ?? node.name, reason })),
    ...ignored.map(({ name }) => ({ node: name, reason: 'it was to be left as it is' })),
  ]
}

/**
 * Quantizes a model file into another one.
 * @throws QuantError; the AbortSignal's reason when aborted. Nothing is left under the output's name then.
 */
export async function quantizeModel(options: QuantizeOptions): Promise<QuantizeReport> {
  const started = performance.now()
  const { scheme, onEvent } = options
  const analysis = await analyze(options.model, options.seqLen, options.capSeqLen)
  const { model, blocks } = analysis
  const names = blocks.flatMap(({ linears }) => linears.map(({ name }) => name))
  checkRules(options, names)
  const outer = planOuter(analysis, options, scheme.weights.symmetric)
  const output = planOutput(model.path!, options.output, schemeName(scheme))
  const sizeBefore = modelSizeBytes(model)
  onEvent?.({ type: 'analyzed', blocks: blocks.length, linears: names.length })
  const { finished, notes } = await quantizeBlocks(options, analysis, output)
  onEvent?.({ type: 'saving' })
  exportBlocks(model, finished, options)
  exportOuter(model, outer.jobs, options)
  if (options.saveParams !== undefined) saveParameters(options.saveParams, options, finished)
  const plans = finished.map(({ plan }) => plan)
  const saved = await saveModel(model, output.path, output.dataFileName ? { dataFileName: output.dataFileName } : {})
  const companions = copyCompanions(output, saved.files)
  return {
    model: model.path!,
    output: output.path,
    files: saved.files,
    scheme: schemeName(scheme),
    blocks: finished.map(({ report }) => report),
    outer: outerReports(outer),
    skipped: plans.flatMap(skippedIn),
    notes: [
      ...learningNotes(finished),
      ...groupNotes(plans),
      ...overrideNotes(plans, scheme.weights),
      ...outer.notes,
      ...companions.notes,
      ...analysis.notes,
      ...new Set(plans.flatMap(plan => plan.notes)),
      ...notes,
    ],
    sizeBefore,
    sizeAfter: saved.sizeBytes,
    elapsedMs: Math.round(performance.now() - started),
  }
}
