/** @file Perplexity and size of models on a text, float or quantized, and their distance from a reference. Knows nothing of blocks and schemes. */

import { evaluationWindows, loadTokens } from '../calibration/dataset.ts'
import type { Divergence } from '../calibration/measures.ts'
import { compareWith, type Decoder, type Perplexity, perplexity } from '../calibration/perplexity.ts'
import type { Speed } from '../calibration/speed.ts'
import { loadTokenizer } from '../calibration/tokenizer.ts'
import { checkSameTokens, checkStatedWidths, statedWidth, tokenizerFile } from '../calibration/vocabulary.ts'
import { checkSeqLen, describeIo, type ModelIo } from '../decoder/model-io.ts'
import { usageError } from '../errors.ts'
import type { Model } from '../graph/ir.ts'
import { loadModel } from '../graph/onnx-file/load.ts'
import { modelSizeBytes } from '../graph/onnx-file/model-files.ts'
import { deviceOf } from '../kernels/device.ts'
import { openModel, type SessionOptions } from '../kernels/session.ts'
import { withinCores } from '../kernels/threads.ts'
import { option } from '../option-mark.ts'
import { floatWeights } from './float-weights.ts'
import { checkEvaluateOptions, type Evaluating, type EvaluateOptions } from './terms/read-options.ts'

/** Default number of tokens per window. */
export const DEFAULT_WINDOW = 256

/** Speed of a model, and memory of a process that runs nothing else. */
export interface MeasuredSpeed extends Speed {
  /** Largest resident set of the process that measured the speed; absent where the caller's process did. */
  readonly peakMemoryBytes?: number
}

/** Measurements of one model. */
export interface Measured extends Pick<Perplexity, 'perplexity' | 'perplexityError' | 'meanLoss' | 'meanLossError'> {
  readonly model: string
  /** Bytes of the model file and its data files. */
  readonly sizeBytes: number
  /** Bits of these files for each weight of the float model; absent where no float model is among those that are measured. */
  readonly bitsPerWeight?: number
  /** Tokens that went through the model in the evaluation, per second. */
  readonly tokensPerSecond: number
  /** Time in onnxruntime. */
  readonly elapsedMs: number
  /** Absent where it was not asked for: at the end of `quantize`. */
  readonly speed?: MeasuredSpeed
}

/** Measurements of one model beside a reference. */
export interface Compared extends Measured {
  /** perplexity / perplexity of the reference */
  readonly ratio?: number
  /** Distance from the reference at every predicted token. */
  readonly divergence?: Divergence
}

/** Measurements of `model`, and of further models. */
export interface EvaluateReport extends Compared {
  /** Measurements of the further models, in their order. */
  readonly others?: readonly Compared[]
  readonly text: string
  readonly seqLen: number
  /** Tokens by which a window starts after the one before it. */
  readonly stride: number
  readonly windows: number
  /** Tokens that were predicted. */
  readonly tokens: number
  /** Measurements of the reference. */
  readonly against?: Measured
  /** Deviations from what was asked for. */
  readonly notes?: readonly string[]
}

interface Candidate {
  readonly model: Model
  readonly io: ModelIo
}

function candidate(path: string): Candidate {
  const model = loadModel(path)
  return { model, io: describeIo(model) }
}

/** Windows of a text, and the way to run models on them. */
interface Course {
  readonly windows: readonly BigInt64Array[]
  readonly stride: number
  readonly settings: SessionOptions
  readonly hooks: Evaluating
}

const onProgress =
  (model: string, { onEvent, signal }: Evaluating) =>
  (done: number, total: number): void => {
    signal?.throwIfAborted()
    onEvent?.({ type: 'evaluating', model, done, total })
  }

function measured({ model }: Candidate, { windows }: Course, result: Perplexity): Measured {
  const weights = floatWeights(model.graph)
  const sizeBytes = modelSizeBytes(model)
  const { elapsedMs } = result
  const fed = windows.length * windows[0]!.length
  return {
    model: model.path!,
    sizeBytes,
    ...(weights !== undefined && { bitsPerWeight: (8 * sizeBytes) / weights }),
    perplexity: result.perplexity,
    perplexityError: result.perplexityError,
    meanLoss: result.meanLoss,
    meanLossError: result.meanLossError,
    tokensPerSecond: Math.round((fed / elapsedMs) * 1000),
    elapsedMs: Math.round(elapsedMs),
  }
}

/** Opens models, runs `work`, and gives the memory back. */
async function withDecoders<T>(
  candidates: readonly Candidate[],
  settings: SessionOptions,
  work: (decoders: readonly Decoder[]) => Promise<T>,
): Promise<T> {
  const sessions: Awaited<ReturnType<typeof openModel>>[] = []
  try {
    for (const { model } of candidates) sessions.push(await openModel(model.path!, settings))
    return await work(candidates.map(({ model, io }, i) => ({ name: model.path!, session: sessions[i]!, io })))
  } finally {
    for (const session of sessions) await session.release()
  }
}

const measureAlone = (one: Candidate, course: Course): Promise<Measured> =>
  withDecoders([one], course.settings, async ([decoder]) => {
    const { session, io, name } = decoder!
    const options = { stride: course.stride, onProgress: onProgress(name, course.hooks) }
    return measured(one, course, await perplexity(session, io, course.windows, options))
  })

/** A model beside the reference: figures of both. */
const measureBeside = (
  one: Candidate,
  reference: Candidate,
  course: Course,
): Promise<{ readonly compared: Compared; readonly against: Measured }> =>
  withDecoders([one, reference], course.settings, async ([q, p]) => {
    const options = { stride: course.stride, onProgress: onProgress(q!.name, course.hooks) }
    const result = await compareWith(p!, q!, course.windows, options)
    const against = measured(reference, course, result.reference)
    const compared = besideReference(measured(one, course, result.model), against)
    return { compared: { ...compared, divergence: result.divergence }, against }
  })

/** The measurements of one model alone. */
export function measuredOf(report: Measured): Measured {
  const { model, sizeBytes, bitsPerWeight, tokensPerSecond, elapsedMs, speed } = report
  const { perplexity, perplexityError, meanLoss, meanLossError } = report
  return {
    model,
    sizeBytes,
    ...(bitsPerWeight !== undefined && { bitsPerWeight }),
    perplexity,
    perplexityError,
    meanLoss,
    meanLossError,
    tokensPerSecond,
    elapsedMs,
    ...(speed && { speed }),
  }
}

/** A model's measurements with those that follow from the reference's: the ratio, and bits per weight of the reference. */
export function besideReference<T extends Measured>(model: T, against: Measured): T & Compared {
  const perByte = against.bitsPerWeight === undefined ? undefined : against.bitsPerWeight / against.sizeBytes
  return {
    ...model,
    ...(perByte !== undefined && { bitsPerWeight: model.sizeBytes * perByte }),
    ratio: model.perplexity / against.perplexity,
  }
}

/** Refuses models that do not read the same tokens. @throws E_VOCABULARY, E_TOKENIZER */
function checkVocabularies(candidates: readonly Candidate[], tokenizer: string | undefined): void {
  if (candidates.length < 2) return
  checkStatedWidths(
    candidates.map(({ model, io }) => ({ model: model.path!, vocabulary: statedWidth(model.graph, io.logits.name) })),
  )
  const places = [...(tokenizer === undefined ? [] : [tokenizer]), ...candidates.map(({ model }) => model.path!)]
  checkSameTokens(places.map(tokenizerFile).filter(file => file !== undefined))
}

/** The path whose tokenizer reads the text: the first model that has one beside it; the first model where none has. */
const tokenizerPlace = (candidates: readonly Candidate[]): string => {
  const paths = candidates.map(({ model }) => model.path!)
  return paths.find(path => tokenizerFile(path) !== undefined) ?? paths[0]!
}

/**
 * Perplexity over windows that follow each other without overlap, each starting with nothing before it (as the GPTQ and
 * OmniQuant evaluations do), or that overlap by a stride. Quantized models can be measured too. With a reference, each model runs beside it,
 * window by window: two models are in memory at a time.
 * @throws E_USAGE, E_SEQ_LEN, E_CALIBRATION, E_TOKENIZER, what loadModel and describeIo throw; E_VOCABULARY when models do not read the same
 * tokens; E_RUNTIME when onnxruntime refuses a model; the AbortSignal's reason when aborted.
 */
export async function evaluateModel(options: EvaluateOptions, hooks: Evaluating = {}): Promise<EvaluateReport> {
  checkEvaluateOptions(options)
  const { text, threads, device, qdqAccuracyLevel, others = [] } = options
  const { session, notes } = withinCores({ threads, device: deviceOf(device) })
  const models = [options.model, ...others].map(candidate)
  const reference = options.against === undefined ? undefined : candidate(options.against)
  const all = reference ? [...models, reference] : models
  checkVocabularies(all, options.tokenizer)
  const limits = all.map(({ io }) => io.maxPositions ?? Infinity)
  const fixed = all.find(({ io }) => io.seqLen !== undefined)?.io.seqLen
  const seqLen = options.seqLen ?? fixed ?? Math.min(DEFAULT_WINDOW, ...limits)
  for (const { io } of all) checkSeqLen(io, seqLen)
  const { stride = seqLen } = options
  if (stride > seqLen)
    throw usageError(
      `${option('stride', stride)} would leave out tokens between windows of ${seqLen}`,
      `Give ${seqLen} or less, or longer windows with ${option('seqLen')}.`,
      'stride',
    )
  const tokenizer = () => loadTokenizer(options.tokenizer ?? tokenizerPlace(all))
  const needed = options.windows === undefined ? undefined : (options.windows - 1) * stride + seqLen
  const { tokens } = loadTokens(text, tokenizer, needed)
  const windows = evaluationWindows(tokens, seqLen, stride).slice(0, options.windows)
  const settings = { ...session, ...(qdqAccuracyLevel !== undefined && { qdqAccuracyLevel }) }
  const course: Course = { windows, stride, settings, hooks }
  const results: Compared[] = []
  let against: Measured | undefined
  for (const each of models) {
    hooks.signal?.throwIfAborted()
    if (reference) {
      const beside = await measureBeside(each, reference, course)
      results.push(beside.compared)
      against ??= beside.against
    } else results.push(await measureAlone(each, course))
  }
  const [first, ...further] = results as [Compared, ...Compared[]]
  return {
    ...first,
    ...(further.length > 0 && { others: further }),
    text,
    seqLen,
    stride,
    windows: windows.length,
    tokens: predictedTokens(windows.length, seqLen, stride),
    ...(notes.length > 0 && { notes }),
    ...(against && { against }),
  }
}

const predictedTokens = (windows: number, seqLen: number, stride: number): number =>
  seqLen - 1 + (windows - 1) * Math.min(stride, seqLen - 1)
