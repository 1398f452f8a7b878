/** @file The method from end to end, block after block. The place to start reading. */

import { existsSync } from 'node:fs'
import { SourceWatch } from '../files/digest.ts'
import { inWords } from '../files/disk-errors.ts'
import { recoverSet } from '../files/file-set.ts'
import { WorkFolder, workPlace } from '../files/work-folder.ts'
import { modelFiles, modelSizeBytes } from '../graph/onnx-file/model-files.ts'
import { withinCores } from '../kernels/threads.ts'
import { chooseBits, choosesBits } from './choose-bits.ts'
import { outputDivergence } from './choose/output-divergence.ts'
import { checkRoom } from './check-room.ts'
import { checkPerplexity } from './check-perplexity.ts'
import { existingOutput } from './existing-output.ts'
import { checkFormat } from './export/check-format.ts'
import { exportBlocks } from './export/export-blocks.ts'
import { exportEmbeddings } from './export/export-embeddings.ts'
import { runtimeNeed } from './export/runtime-versions.ts'
import { roundingFor } from './default-rounding.ts'
import { analyze } from './find/analyze.ts'
import type { Block } from './find/blocks.ts'
import { findProducts } from './find/products.ts'
import { checkConstants } from './find/sound-numbers.ts'
import { kernelNotes } from './kernel-notes.ts'
import { chooseEffort } from './learn/choose-effort.ts'
import { bitsPerParameter, foretell, storedBitsNotes } from './foretell.ts'
import { idleNotes } from './idle-options.ts'
import { inFloat16 } from './float16/in-float16.ts'
import type { Effort } from './learn/effort.ts'
import { learns } from './learn/learnables.ts'
import { saveParameters } from './learn/replay.ts'
import { errorSummary } from './error-summary.ts'
import { deviceNotes, groupNotes, learningNotes, overrideNotes, skippedIn } from './notes.ts'
import { savingOf } from './output/data-file.ts'
import { fromHome, planOutput } from './output/paths.ts'
import { checkOutput, placeOf, saveOutput } from './output/save-output.ts'
import { embeddingReports, planEmbeddings } from './plan/plan-embeddings.ts'
import { calibrationReport, provenanceOf, quantizationConfig, writeProvenance } from './provenance.ts'
import { checkRules } from './plan/weight-rules.ts'
import { finishedBefore, isWorthKeeping } from './resume.ts'
import { runBlocks } from './run-blocks.ts'
import { calibrationOf } from './run-calibration.ts'
import { planOfRun, threadsOf } from './run-plan.ts'
import { SCALED_OUTPUTS, scaledOutputNotes, scaledOutputs } from './scaled-outputs.ts'
import { runDigest, signatureOfRun, version } from './signature.ts'
import type { Hooks, QuantizeOptions, Run } from './terms/options.ts'
import type { QuantizeReport, Traces } from './terms/report.ts'
import { resolveOptions } from './terms/resolve-options.ts'
import { schemeName } from './terms/scheme.ts'

/**
 * Options with less learning, as the limits of the run allow. Fewer steps are larger ones: the learning rate of transformations grows
 * with the other.
 */
function withEffort(run: Run, effort: Effort): Run {
  const { learningRate, letLearningRate } = run
  if (effort.learningRate === learningRate) return { ...run, ...effort }
  return { ...run, ...effort, letLearningRate: effort.learningRate * (letLearningRate / learningRate) }
}

/** Stands for the scheme where each weight has its own. */
const MIXED = 'mixed'

/** True for a model whose weights are float16; some exporters leave a few of them, and constants, in float32. */
const isFloat16 = (blocks: readonly Block[]): boolean =>
  blocks.some(({ linears }) => linears.some(({ weight }) => weight.tensor?.dtype === 'float16'))

/** @throws E_OUTPUT where the output is there. What a run of the same options left besides it, when it was killed at its end, goes. */
async function refuseExisting(traces: Traces, digest: string): Promise<void> {
  const existing = existingOutput(traces.output.head, digest)
  if (!existing) return
  if (existing.same && existsSync(traces.work.path)) {
    const work = await WorkFolder.adopt(traces.work)
    if (work) recoverSet(traces.output)
    work?.remove()
  }
  throw existing.refusal
}

/**
 * Quantizes a model file into another one. Everything finished before the end lies in a folder (`workDir`), and the same call goes on
 * from there; a run that ended before its first block was finished leaves nothing. Notes hold marks of options.
 * @throws QuantError; the AbortSignal's reason when aborted. Nothing is left under the output's name then.
 */
export const quantizeModel = (given: QuantizeOptions, hooks: Hooks = {}): Promise<QuantizeReport> =>
  inWords(() => quantize(given, hooks))

async function quantize(given: QuantizeOptions, hooks: Hooks): Promise<QuantizeReport> {
  const started = performance.now()
  const resolved = resolveOptions(given)
  const { session, notes: threadNotes } = withinCores(resolved.session)
  const found = await analyze(resolved.model, resolved.seqLen, resolved.capSeqLen)
  const { rounding, notes: roundingNotes } = roundingFor(resolved, found.blocks)
  const options: Run = { ...resolved, rounding, ...hooks, session }
  const { scheme, onEvent } = options
  const { model, blocks } = found
  checkConstants(found)
  const names = blocks.flatMap(({ linears }) => linears.map(({ name }) => name))
  checkRules(options, names)
  const sizeBefore = modelSizeBytes(model)
  // Before the plan, which reads the types that scales and transformed constants are stored in.
  const { analysis, notes: typeNotes } = options.float16 ? inFloat16(found) : { analysis: found, notes: [] }
  const outer = planEmbeddings(analysis, options, scheme.weights.symmetric)
  checkFormat(analysis, options, outer)
  const { layout } = options
  const wasFloat16 = isFloat16(blocks)
  const naming = { layout, float16: wasFloat16 || options.float16, converted: options.float16 && !wasFloat16 }
  const name = options.choosing ? MIXED : schemeName(scheme)
  const output = planOutput(model.path!, options.output, name, naming)
  onEvent?.({ type: 'analyzed', blocks: blocks.length, linears: names.length })
  const saving = savingOf(model, output)
  const others = [options.calib, options.params].filter(file => file !== undefined)
  checkOutput(model, output, saving, options.saveParams, others)
  const traces = { work: workPlace(output.path, options.workDir), output: placeOf(output, saving, options.saveParams) }
  const digest = runDigest(options, analysis)
  if (!options.force && !options.choosing?.dryRun) await refuseExisting(traces, digest)
  const source = new SourceWatch(modelFiles(model))
  const inputs = new SourceWatch(others)
  // A choice made by a function cannot be compared with that of an earlier run.
  const fresh = options.fresh || options.selectMappings !== undefined
  const signature = signatureOfRun(options, analysis)
  onEvent?.({ type: 'working', traces })
  const work = await WorkFolder.open(traces.work, signature, fresh)
  // The output is this run's from here on.
  recoverSet(traces.output)
  try {
    const { effort, notes: effortNotes } = learns(options)
      ? await chooseEffort(options, analysis, work)
      : { effort: options, notes: [] }
    const learning = withEffort(options, effort)
    const calibrated = () => calibrationOf(learning, analysis, work, inputs)
    const chosen = choosesBits(learning)
      ? await chooseBits(learning, analysis, outer, sizeBefore, async () => (await calibrated()).learning, work)
      : undefined
    const running = chosen ? { ...learning, overrides: [...(learning.overrides ?? []), ...chosen.overrides] } : learning
    const foretold = foretell(analysis, running, outer, sizeBefore)
    const { storage } = foretold
    const head = {
      model: model.path!,
      version,
      target: options.target,
      output: output.path,
      scheme: name,
      seed: options.seed,
      threads: threadsOf(options),
      sizeBefore,
    }
    const early = [
      ...idleNotes(given, running),
      ...storedBitsNotes(foretold.storage, scheme),
      ...threadNotes,
      ...roundingNotes,
      ...effortNotes,
    ]
    if (chosen && options.choosing?.dryRun) {
      const nothing = { files: [], blocks: [], outer: [], skipped: [], copied: [] }
      return {
        ...head,
        ...nothing,
        choice: chosen.report,
        storage,
        check: { skipped: 'a dry run writes no model' },
        notes: [...early, ...outer.notes, ...analysis.notes, ...typeNotes, ...leave(work)],
        sizeAfter: chosen.report.plannedBytes,
        elapsedMs: Math.round(performance.now() - started),
      }
    }
    checkRoom(analysis, running, outer, work, output, sizeBefore)
    const paths = { output: output.path, workDir: work.path }
    onEvent?.({ type: 'planned', plan: planOfRun(analysis, running, foretold, paths, sizeBefore, early) })
    const before = finishedBefore(work, blocks.length)
    const sources = { model: source, inputs }
    const weights = await runBlocks(running, analysis, outer.jobs, work, sources)
    const { blocks: finished, notes } = weights
    onEvent?.({ type: 'saving', done: 0, total: foretold.sizeAfter })
    source.check()
    exportBlocks(model, finished, running)
    const inBlocks = findProducts(model)
    exportEmbeddings(model, weights.outer, options)
    const products = findProducts(model)
    const outside = [...products].flatMap(([node, product]) => (inBlocks.has(node) ? [] : [product]))
    const onnxruntime = runtimeNeed([...products.values()])
    const scaled = scaledOutputs(finished)
    if (scaled.length > 0) model.metadata.set(SCALED_OUTPUTS, scaled.join(','))
    if (options.saveParams !== undefined)
      saveParameters(options.saveParams, running, finished, weights.outer, output.path)
    const calibration = weights.calibration && calibrationReport(options, weights.calibration)
    writeProvenance(model, provenanceOf(running, digest, calibration))
    const onProgress = (done: number, total: number) => {
      options.signal?.throwIfAborted()
      onEvent?.({ type: 'saving', done, total })
    }
    const beforePublish = () => {
      source.check()
      work.check()
    }
    const quantization = quantizationConfig(running, calibration, fromHome(output.path))
    const saved = await saveOutput(model, output, { ...saving, onProgress }, { beforePublish, quantization })
    const choice = chosen && {
      ...chosen.report,
      ...(await outputDivergence(output.path, running, analysis, (await calibrated()).kept, work)),
    }
    const left = work.remove()
    onEvent?.({ type: 'saved', output: output.path })
    const check = await checkPerplexity(running, weights.calibration, model.path!, output.path)
    const plans = finished.map(({ plan }) => plan)
    const reports = finished.map(({ report }) => report)
    const error = errorSummary(reports)
    return {
      ...head,
      files: saved.files,
      ...(onnxruntime && { onnxruntime }),
      blocks: reports,
      outer: embeddingReports({ jobs: weights.outer }),
      skipped: plans.flatMap(skippedIn),
      notes: [
        ...(before > 0 ? [`went on from an earlier run, which had finished ${before} of ${blocks.length} blocks`] : []),
        ...early,
        ...deviceNotes(finished),
        ...learningNotes(finished),
        ...groupNotes(plans),
        ...(choice ? [] : overrideNotes(plans, scheme.weights)),
        ...kernelNotes({ inBlocks: [...inBlocks.values()], outside }, options),
        ...scaledOutputNotes(options, analysis, scaled),
        ...outer.notes,
        ...saved.notes,
        ...analysis.notes,
        ...typeNotes,
        ...new Set(plans.flatMap(plan => plan.notes)),
        ...notes,
        ...left,
      ],
      ...(choice && { choice }),
      storage: { ...storage, bitsPerParameter: bitsPerParameter(saved.sizeBytes, storage.parameters) },
      ...(calibration && { calibration }),
      ...(error && { error }),
      check,
      copied: saved.copied,
      sizeAfter: saved.sizeBytes,
      elapsedMs: Math.round(performance.now() - started),
    }
  } catch (error) {
    leave(work)
    throw error
  }
}

/** Leaves the work folder, and removes it where it holds nothing that a later run can use. @returns notes on what could not be removed. */
function leave(work: WorkFolder): string[] {
  if (!isWorthKeeping(work.path)) return work.remove()
  work.release()
  return []
}
