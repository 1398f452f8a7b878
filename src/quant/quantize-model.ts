/** @file The method from end to end, block after block. The place to start reading. */

import { SourceWatch } from '../files/digest.ts'
import { inWords } from '../files/disk-errors.ts'
import { recoverSet } from '../files/file-set.ts'
import { WorkFolder, workPlace } from '../files/work-folder.ts'
import { modelFiles, modelSizeBytes } from '../graph/onnx-file/model-files.ts'
import { withinCores } from '../kernels/threads.ts'
import { checkRoom } from './check-room.ts'
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
import { inFloat16 } from './float16/in-float16.ts'
import type { Effort } from './learn/effort.ts'
import { learns } from './learn/learnables.ts'
import { saveParameters } from './learn/replay.ts'
import { deviceNotes, groupNotes, learningNotes, overrideNotes, skippedIn } from './notes.ts'
import { savingOf } from './output/data-file.ts'
import { planOutput } from './output/paths.ts'
import { checkOutput, placeOf, saveOutput } from './output/save-output.ts'
import { embeddingReports, planEmbeddings } from './plan/plan-embeddings.ts'
import { checkRules } from './plan/weight-rules.ts'
import { finishedBefore, isWorthKeeping } from './resume.ts'
import { runBlocks } from './run-blocks.ts'
import { SCALED_OUTPUTS, scaledOutputNotes, scaledOutputs } from './scaled-outputs.ts'
import { signatureOfRun } from './signature.ts'
import type { Hooks, QuantizeOptions, Run } from './terms/options.ts'
import type { QuantizeReport } from './terms/report.ts'
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

/** True for a model whose weights are float16; some exporters leave a few of them, and constants, in float32. */
const isFloat16 = (blocks: readonly Block[]): boolean =>
  blocks.some(({ linears }) => linears.some(({ weight }) => weight.tensor?.dtype === 'float16'))

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
  const output = planOutput(model.path!, options.output, schemeName(scheme), naming)
  onEvent?.({ type: 'analyzed', blocks: blocks.length, linears: names.length })
  const saving = savingOf(model, output)
  const others = [options.calib, options.params].filter(file => file !== undefined)
  checkOutput(model, output, saving, options.saveParams, others)
  const source = new SourceWatch(modelFiles(model))
  const inputs = new SourceWatch(others)
  // A choice made by a function cannot be compared with that of an earlier run.
  const fresh = options.fresh || options.selectMappings !== undefined
  const signature = signatureOfRun(options, analysis)
  const traces = { work: workPlace(output.path, options.workDir), output: placeOf(output, saving, options.saveParams) }
  onEvent?.({ type: 'working', traces })
  const work = await WorkFolder.open(traces.work, signature, fresh)
  // The output is this run's from here on.
  recoverSet(traces.output)
  try {
    const { effort, notes: effortNotes } = learns(options)
      ? await chooseEffort(options, analysis, work)
      : { effort: options, notes: [] }
    const running = withEffort(options, effort)
    checkRoom(analysis, running, outer, work, output, sizeBefore)
    const before = finishedBefore(work, blocks.length)
    const sources = { model: source, inputs }
    const weights = await runBlocks(running, analysis, outer.jobs, work, sources)
    const { blocks: finished, notes } = weights
    onEvent?.({ type: 'saving' })
    source.check()
    exportBlocks(model, finished, options)
    const inBlocks = findProducts(model)
    exportEmbeddings(model, weights.outer, options)
    const products = findProducts(model)
    const outside = [...products].flatMap(([node, product]) => (inBlocks.has(node) ? [] : [product]))
    const onnxruntime = runtimeNeed([...products.values()])
    const scaled = scaledOutputs(finished)
    if (scaled.length > 0) model.metadata.set(SCALED_OUTPUTS, scaled.join(','))
    if (options.saveParams !== undefined)
      saveParameters(options.saveParams, options, finished, weights.outer, output.path)
    const saved = await saveOutput(model, output, saving, () => {
      source.check()
      work.check()
    })
    const left = work.remove()
    const plans = finished.map(({ plan }) => plan)
    return {
      model: model.path!,
      target: options.target,
      output: output.path,
      files: saved.files,
      scheme: schemeName(scheme),
      ...(onnxruntime && { onnxruntime }),
      blocks: finished.map(({ report }) => report),
      outer: embeddingReports({ jobs: weights.outer }),
      skipped: plans.flatMap(skippedIn),
      notes: [
        ...(before > 0 ? [`went on from an earlier run, which had finished ${before} of ${blocks.length} blocks`] : []),
        ...threadNotes,
        ...roundingNotes,
        ...effortNotes,
        ...deviceNotes(finished),
        ...learningNotes(finished),
        ...groupNotes(plans),
        ...overrideNotes(plans, scheme.weights),
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
