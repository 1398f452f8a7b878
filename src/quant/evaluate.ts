/** @file Perplexity, size and speed of a model on a text, float or quantized. Knows nothing of blocks and schemes. */

import { dirname } from 'node:path'
import { evaluationWindows, loadTokens } from '../calibration/dataset.ts'
import { perplexity } from '../calibration/perplexity.ts'
import { loadTokenizer } from '../calibration/tokenizer.ts'
import { checkSeqLen, describeIo, type ModelIo } from '../decoder/model-io.ts'
import type { Model } from '../graph/ir.ts'
import { loadModel } from '../graph/onnx-file/load.ts'
import { modelSizeBytes } from '../graph/onnx-file/model-files.ts'
import { deviceOf } from '../kernels/device.ts'
import { openModel, type SessionOptions } from '../kernels/session.ts'
import { withinCores } from '../kernels/threads.ts'
import { checkEvaluateOptions, type Evaluating, type EvaluateOptions } from './terms/read-options.ts'

/** Default number of tokens per window. */
export const DEFAULT_WINDOW = 256

/** Measurements of one model. */
export interface Measured {
  readonly model: string
  /** Bytes of the model file and its data files. */
  readonly sizeBytes: number
  /** exp(meanLoss) */
  readonly perplexity: number
  /** Mean of -log p(token | the tokens of its window before it). */
  readonly meanLoss: number
  /** Tokens that went through the model, per second. */
  readonly tokensPerSecond: number
  readonly elapsedMs: number
}

export interface EvaluateReport extends Measured {
  readonly text: string
  readonly seqLen: number
  readonly windows: number
  /** Tokens that were predicted: windows x (seqLen - 1). */
  readonly tokens: number
  /** The other model, and perplexity / its perplexity. */
  readonly against?: Measured
  readonly ratio?: number
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

async function measure(
  { model, io }: Candidate,
  windows: readonly BigInt64Array[],
  settings: SessionOptions,
  { onEvent, signal }: Evaluating,
): Promise<Measured> {
  const path = model.path!
  const session = await openModel(path, settings)
  try {
    const result = await perplexity(session, io, windows, {
      onProgress: (done, total) => {
        signal?.throwIfAborted()
        onEvent?.({ type: 'evaluating', model: path, done, total })
      },
    })
    const fed = windows.length * windows[0]!.length
    return {
      model: path,
      sizeBytes: modelSizeBytes(model),
      perplexity: result.perplexity,
      meanLoss: result.meanLoss,
      tokensPerSecond: Math.round((fed / result.elapsedMs) * 1000),
      elapsedMs: Math.round(result.elapsedMs),
    }
  } finally {
    await session.release()
  }
}

/**
 * Perplexity over windows that follow each other without overlap, each starting with nothing before it (as the GPTQ and
 * OmniQuant evaluations do). Quantized models can be measured too.
 * @throws E_SEQ_LEN, E_CALIBRATION, E_TOKENIZER, what loadModel and describeIo throw; E_RUNTIME when onnxruntime refuses
 * the model; the AbortSignal's reason when aborted.
 */
export async function evaluateModel(options: EvaluateOptions, hooks: Evaluating = {}): Promise<EvaluateReport> {
  checkEvaluateOptions(options)
  const { text, threads, device, qdqAccuracyLevel } = options
  const { session, notes } = withinCores({ threads, device: deviceOf(device) })
  const candidates = [options.model, ...(options.against === undefined ? [] : [options.against])].map(candidate)
  const [{ model }] = candidates as [Candidate]
  const limits = candidates.map(({ io }) => io.maxPositions ?? Infinity)
  const fixed = candidates.find(({ io }) => io.seqLen !== undefined)?.io.seqLen
  const seqLen = options.seqLen ?? fixed ?? Math.min(DEFAULT_WINDOW, ...limits)
  for (const { io } of candidates) checkSeqLen(io, seqLen)
  const tokenizer = () => loadTokenizer(options.tokenizer ?? dirname(model.path!))
  const { tokens } = loadTokens(text, tokenizer, options.windows === undefined ? undefined : options.windows * seqLen)
  const windows = evaluationWindows(tokens, seqLen).slice(0, options.windows)
  const settings = { ...session, ...(qdqAccuracyLevel !== undefined && { qdqAccuracyLevel }) }
  const results: Measured[] = []
  for (const each of candidates) {
    hooks.signal?.throwIfAborted()
    results.push(await measure(each, windows, settings, hooks))
  }
  const [measured, against] = results as [Measured, Measured | undefined]
  return {
    ...measured,
    text,
    seqLen,
    windows: windows.length,
    tokens: windows.length * (seqLen - 1),
    ...(notes.length > 0 && { notes }),
    ...(against && { against, ratio: measured.perplexity / against.perplexity }),
  }
}
