/** @file The method from end to end, block after block. The place to start reading. */

import { SourceWatch } from '../files/digest.ts'
import { inWords } from '../files/disk-errors.ts'
import { recoverSet } from '../files/file-set.ts'
import { WorkFolder, workPlace } from '../files/work-folder.ts'
import { modelFiles, modelSizeBytes } from '../graph/onnx-file/model-files.ts'
import { hasExternalSource, type SaveOptions } from '../graph/onnx-file/save.ts'
import { withinCores } from '../kernels/threads.ts'
import { checkRoom } from './check-room.ts'
import { checkFormat } from './export/check-format.ts'
import { exportBlocks } from './export/export-blocks.ts'
import { exportEmbeddings } from './export/export-embeddings.ts'
import { analyze } from './find/analyze.ts'
import { checkConstants } from './find/sound-numbers.ts'
import { chooseEffort } from './learn/choose-effort.ts'
import type { Effort } from './learn/effort.ts'
import { learns } from './learn/learnables.ts'
import { saveParameters } from './learn/replay.ts'
import { groupNotes, learningNotes, overrideNotes, skippedIn } from './notes.ts'
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
  const options: Run = { ...resolved, ...hooks, session }
  const { scheme, onEvent } = options
  const analysis = await analyze(options.model, options.seqLen, options.capSeqLen)
  const { model, blocks } = analysis
  checkConstants(analysis)
  const names = blocks.flatMap(({ linears }) => linears.map(({ name }) => name))
  checkRules(options, names)
  const outer = planEmbeddings(analysis, options, scheme.weights.symmetric)
  checkFormat(analysis, options, outer)
  const output = planOutput(model.path!, options.output, schemeName(scheme))
  const sizeBefore = modelSizeBytes(model)
  onEvent?.({ type: 'analyzed', blocks: blocks.length, linears: names.length })
  // Before the run, because afterwards tensors come from the work folder as well.
  const saving: SaveOptions = {
    externalData: hasExternalSource(model) ? true : 'when-large',
    ...(output.dataFileName && { dataFileName: output.dataFileName }),
  }
  checkOutput(model, output, saving, options.saveParams)
  const source = new SourceWatch(modelFiles(model))
  const inputs = new SourceWatch([options.calib, options.params].filter(file => file !== undefined))
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
    checkRoom(analysis, running, work, output, sizeBefore)
    const before = finishedBefore(work, blocks.length)
    const { blocks: finished, notes } = await runBlocks(running, analysis, work, { model: source, inputs })
    onEvent?.({ type: 'saving' })
    source.check()
    exportBlocks(model, finished, options)
    exportEmbeddings(model, outer.jobs, options)
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
      outer: embeddingReports(outer),
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
