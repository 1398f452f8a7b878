/** @file The method from end to end, block after block. The place to start reading. */

import { dirname } from 'node:path'
import { runsFor } from '../calibration/model-io.ts'
import { inWords } from '../files/disk-errors.ts'
import { checkDiskSpace } from '../files/disk-space.ts'
import { recoverSet } from '../files/file-set.ts'
import { type Signature, WorkFolder, workPlace } from '../files/work-folder.ts'
import { hasExternalSource, type SaveOptions } from '../graph/save.ts'
import { elementCount, sizeBytes } from '../graph/tensor.ts'
import { staticShape } from '../graph/shape.ts'
import { type Analysis, analyze } from './analyze.ts'
import { learnsEquivalence, type Method } from './block-job.ts'
import type { CalibrationOptions } from './calibrate.ts'
import { fewTokensNote } from './experts.ts'
import { chooseEffort, type EffortLimits } from './choose-effort.ts'
import type { ExportOptions } from './export/linears.ts'
import { exportBlocks } from './export/blocks.ts'
import { exportOuter } from './export/outer-linears.ts'
import { modelFiles, modelSizeBytes, type OutputPlan, planOutput } from './output.ts'
import { type OuterOptions, outerReports, planOuter } from './outer-linears.ts'
import { type BlockPlan, groupNotes, overrideNotes } from './plan.ts'
import { saveParameters } from './replay.ts'
import type { BlockReport, QuantizeReport, SkippedReport } from './report.ts'
import { finishedBefore, isWorthKeeping } from './resume/progress.ts'
import { digestOf, signatureOf, SourceWatch } from './resume/signature.ts'
import { learns, runBlocks } from './run-blocks.ts'
import { checkOutput, placeOf, saveOutput } from './save-output.ts'
import { SCALED_OUTPUTS, scaledOutputNotes, scaledOutputs } from './scaled-outputs.ts'
import { schemeName } from './scheme.ts'
import { packedBytes } from './size.ts'
import { checkConstants } from './sound-numbers.ts'
import { withinCores } from './threads.ts'
import { checkRules, rulesText, weightSchemeOf } from './weight-rules.ts'

export interface QuantizeOptions extends CalibrationOptions, Method, EffortLimits, OuterOptions {
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
  /**
   * Folder in which the run makes one of its own for what is finished before the end; by default that is hidden beside the output.
   * Gone when the run succeeds.
   */
  readonly workDir?: string | undefined
  /** Do not go on from where an earlier run ended. */
  readonly fresh?: boolean | undefined
  /** Milliseconds between two notes, while a block is learned, of where learning would go on (default: 20 000). */
  readonly checkpointMs?: number | undefined
}

/** What went wrong while learning, where something did. */
function learningNotes(finished: readonly { readonly report: BlockReport }[]): string[] {
  const blocks = (which: (report: BlockReport) => boolean) =>
    finished.filter(({ report }) => which(report)).map(({ report }) => report.index)
  const diverged = blocks(({ rollbacks }) => rollbacks !== undefined)
  const useless = blocks(({ kept }) => kept === 'rounded')
  const list = (indices: readonly number[]) => `${indices.length === 1 ? 'block' : 'blocks'} ${indices.join(', ')}`
  return [
    ...(diverged.length > 0 ? [`learning diverged in ${list(diverged)} and was rolled back: lower --lr`] : []),
    ...(useless.length > 0
      ? [`learning did not help ${list(useless)}, rounded to nearest: other --lr or more samples`]
      : []),
    ...finished.flatMap(({ report: { index, fewTokens } }) => (fewTokens ? [fewTokensNote(index, fewTokens)] : [])),
  ]
}

/** What stays float in a block: what cannot be quantized, and what was not to be. */
function skippedIn({ block, quantizers, heldFloat }: BlockPlan): SkippedReport[] {
  const ignored = block.linears.filter(linear => !quantizers.has(linear))
  return [
    ...block.skipped.map(({ node, reason }) => ({ node: node.origin?.name ?? node.name, reason })),
    ...ignored.map(linear => ({
      node: linear.name,
      reason: heldFloat.has(linear) ? 'the node it is in cannot be quantized as a whole' : 'it was to be left as it is',
    })),
  ]
}

/** What makes a run the one that an earlier one began. */
function signatureOfRun(options: QuantizeOptions, analysis: Analysis): Signature {
  const { scheme, calib, params, session } = options
  const settings = {
    ...{ scheme: schemeName(scheme), exceptions: rulesText(options) || undefined },
    ...{ format: options.format, 'accuracy level': options.accuracyLevel },
    ...{ 'lm_head bits': options.lmHead, 'embedding bits': options.embedding },
    ...{ 'symmetric activations': scheme.activations?.symmetric, clipping: options.lwc },
    ...{ transformations: learnsEquivalence(options), samples: options.samples, 'sequence length': analysis.seqLen },
    ...{ epochs: options.epochs, seed: options.seed, 'learning rate': options.learningRate },
    ...{ 'learning rate of transformations': options.letLearningRate, schedule: options.schedule },
    ...{ 'most work': options.maxWork, 'time budget in ms': options.timeBudgetMs, optimizer: options.optimizer },
    ...{ alpha: options.alpha, 'augmented loss': options.augLoss },
    ...{ 'kept cache': options.keepCache, 'cache shared with': analysis.partner },
    ...{ 'learned parameters': params === undefined ? undefined : digestOf([params]), device: session.device },
  }
  const learning = learns(options)
  return signatureOf(modelFiles(analysis.model), learning ? calib : undefined, settings, session.threads)
}

/** Bytes of the blocks' weights, quantized. */
function quantizedBytes({ blocks }: Analysis, options: QuantizeOptions): number {
  const { scheme } = options
  const schemeOf = weightSchemeOf(scheme.weights, options)
  const bytes = blocks.flatMap(({ linears }) =>
    linears.map(linear => {
      const weights = schemeOf(linear)
      return weights ? packedBytes(linear, { ...scheme, weights }) : 0
    }),
  )
  return bytes.reduce((sum, size) => sum + size, 0)
}

/** Refuses a run for which there is no room, counting what an earlier one has written already. */
function checkRoom(analysis: Analysis, options: QuantizeOptions, work: WorkFolder, output: OutputPlan, size: number) {
  const { blocks, seqLen, io } = analysis
  const states = learns(options)
    ? 4 * 4 * runsFor(io, options.samples) * elementCount(staticShape(blocks[0]!.input))
    : 0
  const left = 1 - finishedBefore(work, blocks.length) / blocks.length
  const quantized = quantizedBytes(analysis, options)
  const weights = blocks.flatMap(({ linears }) => linears.map(({ weight }) => sizeBytes(weight.tensor!)))
  const floatWeights = weights.reduce((sum, bytes) => sum + bytes, 0)
  checkDiskSpace([
    {
      what: `hidden states of ${options.samples} x ${seqLen} tokens`,
      folder: work.path,
      bytes: Math.max(0, states - work.scratchBytes),
    },
    { what: 'quantized blocks', folder: work.path, bytes: quantized * left },
    { what: 'the output', folder: dirname(output.path), bytes: size - floatWeights + quantized },
  ])
}

/**
 * Quantizes a model file into another one. What is finished before the end lies in a folder (`workDir`), and the same call goes on
 * from there; a run that ended before its first block was finished leaves nothing.
 * @throws QuantError; the AbortSignal's reason when aborted. Nothing is left under the output's name then.
 */
export const quantizeModel = (asked: QuantizeOptions): Promise<QuantizeReport> => inWords(() => quantize(asked))

async function quantize(asked: QuantizeOptions): Promise<QuantizeReport> {
  const started = performance.now()
  const { session, notes: threadNotes } = withinCores(asked.session)
  const options = { ...asked, session }
  const { scheme, onEvent } = options
  const analysis = await analyze(options.model, options.seqLen, options.capSeqLen)
  const { model, blocks } = analysis
  checkConstants(analysis)
  const names = blocks.flatMap(({ linears }) => linears.map(({ name }) => name))
  checkRules(options, names)
  const outer = planOuter(analysis, options, scheme.weights.symmetric)
  const output = planOutput(model.path!, options.output, schemeName(scheme))
  const sizeBefore = modelSizeBytes(model)
  onEvent?.({ type: 'analyzed', blocks: blocks.length, linears: names.length })
  // Now, because afterwards tensors come from the work folder as well.
  const saving: SaveOptions = {
    externalData: hasExternalSource(model) ? true : 'when-large',
    ...(output.dataFileName && { dataFileName: output.dataFileName }),
  }
  checkOutput(model, output, saving, options.saveParams)
  const source = new SourceWatch(modelFiles(model))
  const inputs = new SourceWatch([options.calib, options.params].filter(file => file !== undefined))
  // A choice made by a function cannot be compared with that of an earlier run.
  const fresh = options.fresh === true || options.selectMappings !== undefined
  const signature = signatureOfRun(options, analysis)
  const traces = { work: workPlace(output.path, options.workDir), output: placeOf(output, saving, options.saveParams) }
  onEvent?.({ type: 'working', traces })
  const work = await WorkFolder.open(traces.work, signature, fresh)
  // The output is this run's from here on.
  recoverSet(traces.output)
  try {
    const { effort, notes: effortNotes } = learns(options)
      ? await chooseEffort(options, analysis, work)
      : { effort: {}, notes: [] }
    const running = { ...options, ...effort }
    checkRoom(analysis, running, work, output, sizeBefore)
    const before = finishedBefore(work, blocks.length)
    const { blocks: finished, notes } = await runBlocks(running, analysis, work, { model: source, inputs })
    onEvent?.({ type: 'saving' })
    source.check()
    exportBlocks(model, finished, options)
    exportOuter(model, outer.jobs, options)
    const scaled = scaledOutputs(finished)
    if (scaled.length > 0) model.metadata.set(SCALED_OUTPUTS, scaled.join(','))
    if (options.saveParams !== undefined) saveParameters(options.saveParams, options, finished, output.path)
    const saved = await saveOutput(model, output, saving, () => {
      source.check()
      work.check()
    })
    const left = work.remove()
    const plans = finished.map(({ plan }) => plan)
    return {
      model: model.path!,
      output: output.path,
      files: saved.files,
      scheme: schemeName(scheme),
      blocks: finished.map(({ report }) => report),
      outer: outerReports(outer),
      skipped: plans.flatMap(skippedIn),
      notes: [
        ...(before > 0 ? [`went on from an earlier run, which had finished ${before} of ${blocks.length} blocks`] : []),
        ...threadNotes,
        ...effortNotes,
        ...learningNotes(finished),
        ...groupNotes(plans),
        ...overrideNotes(plans, scheme.weights),
        ...scaledOutputNotes(options, analysis, scaled),
        ...outer.notes,
        ...saved.notes,
        ...analysis.notes,
        ...new Set(plans.flatMap(plan => plan.notes)),
        ...notes,
        ...left,
      ],
      sizeBefore,
      sizeAfter: saved.sizeBytes,
      elapsedMs: Math.round(performance.now() - started),
    }
  } catch (error) {
    if (isWorthKeeping(work.path)) work.release()
    else work.remove()
    throw error
  }
}
