/** @file Calibration tokens: from the user's file, or written by the model itself. */

import { option } from '../option-mark.ts'
import { totalmem } from 'node:os'
import type { ModelIo } from '../decoder/model-io.ts'
import { QuantError } from '../errors.ts'
import { isFloat } from '../graph/dtype.ts'
import type { Graph, Model } from '../graph/ir.ts'
import { elementCount } from '../graph/tensor.ts'
import { openModel, type SessionOptions } from '../kernels/session.ts'
import { type CalibrationSamples, LEAST_TEXT, loadSamples } from './dataset.ts'
import { generateTokens } from './generate.ts'
import { heldOutOf } from './held-out.ts'
import { loadTokenizer } from './tokenizer.ts'

/** The decoder that is calibrated. */
export interface CalibratedModel {
  readonly model: Model
  /** Folder of the model file, with its tokenizer. */
  readonly folder: string
  readonly io: ModelIo
  /** Tokens per sequence that the model takes, at most as many as were asked for. */
  readonly seqLen: number
}

/** Tokens that were asked for. */
export interface TokenOptions {
  /** File of text or token ids; without it the model writes its own text. */
  readonly calib?: string | undefined
  readonly samples: number
  /** Tokens per sequence. */
  readonly seqLen: number
  readonly seed: number
  readonly session: SessionOptions
  /** Called while the model writes; ends it by throwing. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined
}

/** Samples, with notes about them. */
export interface Calibration extends CalibrationSamples {
  readonly notes: readonly string[]
}

/** Notes about a text that is short. @throws E_CALIBRATION for one that nothing can be learned from. */
function shortTextNotes(path: string, { textTokens = Infinity, samples, seqLen }: CalibrationSamples): string[] {
  if (textTokens < LEAST_TEXT)
    throw new QuantError(
      'E_CALIBRATION',
      `${path} has ${textTokens} tokens: too few to learn from`,
      `Give some thousand words, or leave out ${option('calib')}: the model writes its own text then.`,
    )
  return textTokens >= samples * seqLen
    ? []
    : [`the text is short: ${samples} samples of ${seqLen} tokens overlap in its ${textTokens} tokens`]
}

/** Rethrows, with the way out: a model that no kernel runs can still be quantized, because blocks are run as primitives. */
function modelDoesNotRun(error: unknown): never {
  if (!(error instanceof QuantError) || error.code !== 'E_RUNTIME') throw error
  throw new QuantError(
    'E_RUNTIME',
    `the model cannot write its own calibration text, because it does not run here: ${error.message}`,
    `Give a text or tokens with ${option('calib', 'FILE')}. The result will run where the model does.`,
    { cause: error },
  )
}

/** Bytes of weights from which on a model is run without prepacking, which would copy all of them. */
const LARGE_BYTES = 2 ** 30

/** Bytes of the weights as float32, the type onnxruntime's CPU kernels compute in. */
function floatBytes(graph: Graph): number {
  const floats = graph.initializers.filter(({ tensor }) => tensor && isFloat(tensor.dtype))
  return floats.reduce((sum, { tensor }) => sum + 4 * elementCount(tensor!.dims), 0)
}

/**
 * Refuses to let a model write text that does not fit into memory: every token would read all of it from the disk.
 * @param memory of the machine, in bytes. @throws E_CALIBRATION
 */
export function checkMemory(weights: number, memory: number): void {
  if (weights <= memory / 2) return
  const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(1)} GB`
  throw new QuantError(
    'E_CALIBRATION',
    `the model is too large to write its own calibration text here: ${gigabytes(weights)} of weights, ${gigabytes(memory)} of memory`,
    `Give a text or tokens with ${option('calib', 'FILE')}: quantizing itself needs memory for one block only.`,
  )
}

/**
 * Tokens from the user's file, or from the model itself.
 * @throws E_CALIBRATION, E_TOKENIZER; E_RUNTIME when the model itself does not run; what `onProgress` throws.
 */
export async function calibrate(
  { model, folder, io, seqLen }: CalibratedModel,
  options: TokenOptions,
): Promise<Calibration> {
  const { calib, samples, seed, session, onProgress } = options
  const why = io.seqLen === undefined ? 'the model has no more positions' : 'the model takes no others'
  const notes = seqLen < options.seqLen ? [`sequences are ${seqLen} tokens long: ${why}`] : []
  if (calib !== undefined) {
    const tokenizer = () => loadTokenizer(folder)
    const loaded = loadSamples(calib, tokenizer, { samples, seqLen, seed, vocabSize: io.vocabSize })
    return { ...loaded, notes: [...notes, ...shortTextNotes(calib, loaded)] }
  }
  const weights = floatBytes(model.graph)
  checkMemory(weights, totalmem())
  // Without prepacking the weights are mapped from the file, which saves memory for large models.
  const prepacking = weights < LARGE_BYTES
  const writer = await openModel(model.path!, { ...session, prepacking }).catch(modelDoesNotRun)
  try {
    const all = samples + heldOutOf(samples)
    const { tokens } = await generateTokens(writer, io, { samples: all, seqLen, seed, onProgress }).catch(
      modelDoesNotRun,
    )
    const [learned, heldOut] = [tokens.slice(0, samples * seqLen), tokens.slice(samples * seqLen)]
    return {
      tokens: learned,
      heldOut,
      samples,
      seqLen,
      notes: [`calibrated with text the model wrote itself (no ${option('calib')})`, ...notes],
    }
  } finally {
    await writer.release()
  }
}
