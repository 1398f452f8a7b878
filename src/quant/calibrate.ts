/** @file The tokens a model is calibrated with: from the user's file, or written by the model itself. */

import { calibrationSamples, loadTokens } from '../calibration/dataset.ts'
import { generateTokens } from '../calibration/generate.ts'
import { loadTokenizer } from '../calibration/tokenizer.ts'
import { openModel, type SessionOptions } from '../kernels/session.ts'
import { QuantError } from '../errors.ts'
import type { Analysis } from './analyze.ts'
import type { OnEvent } from './report.ts'

export interface CalibrationOptions {
  /** Text or token ids; without it the model writes its own text. */
  readonly calib?: string
  readonly samples: number
  readonly seqLen: number
  /** Shorten sequences to the model's positions (a note says so) instead of refusing longer ones. */
  readonly capSeqLen?: boolean
  readonly seed: number
}

/** `samples` sequences of `seqLen` token ids, one after the other. */
export interface Calibration {
  readonly tokens: BigInt64Array
  readonly samples: number
  readonly seqLen: number
  readonly notes: readonly string[]
}

/** Blocks are run as primitives, so that a model which a kernel refuses can be quantized all the same. */
function modelDoesNotRun(error: unknown): never {
  if (!(error instanceof QuantError) || error.code !== 'E_RUNTIME') throw error
  throw new QuantError(
    'E_RUNTIME',
    `the model cannot write its own calibration text, because it does not run here: ${error.message}`,
    'Give a text or tokens with --calib FILE. The result will run where the model does.',
    { cause: error },
  )
}

/** @throws E_CALIBRATION, E_TOKENIZER; E_RUNTIME when the model itself does not run. */
export async function calibrate(
  { model, folder, io, seqLen }: Analysis,
  options: CalibrationOptions & { session: SessionOptions; onEvent?: OnEvent; signal?: AbortSignal },
): Promise<Calibration> {
  const { calib, samples, seed, session, onEvent, signal } = options
  const notes = seqLen < options.seqLen ? [`sequences are ${seqLen} tokens long: the model has no more positions`] : []
  if (calib !== undefined) {
    const source = loadTokens(calib, () => loadTokenizer(folder))
    return { ...calibrationSamples(source, { samples, seqLen, seed, vocabSize: io.vocabSize }), notes }
  }
  const writer = await openModel(model.path!, session).catch(modelDoesNotRun)
  try {
    const onProgress = (done: number, total: number) => {
      signal?.throwIfAborted()
      onEvent?.({ type: 'calibrating', done, total })
    }
    const generated = await generateTokens(writer, io, { samples, seqLen, seed, onProgress }).catch(modelDoesNotRun)
    return { ...generated, notes: ['calibrated with text the model wrote itself (no --calib)', ...notes] }
  } finally {
    await writer.release()
  }
}
