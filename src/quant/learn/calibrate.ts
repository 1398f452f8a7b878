/** @file The tokens a model is calibrated with: from the user's file, or written by the model itself. */

import { option } from '../../option-mark.ts'
import { totalmem } from 'node:os'
import { loadSamples } from '../../calibration/dataset.ts'
import { generateTokens } from '../../calibration/generate.ts'
import { loadTokenizer } from '../../calibration/tokenizer.ts'
import { QuantError } from '../../errors.ts'
import { isFloat } from '../../graph/dtype.ts'
import type { Graph } from '../../graph/ir.ts'
import { elementCount } from '../../graph/tensor.ts'
import { openModel, type SessionOptions } from '../../kernels/session.ts'
import type { Analysis } from '../find/analysis.ts'
import type { CalibrationOptions } from '../terms/options.ts'
import type { OnEvent } from '../terms/report.ts'

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
    `Give a text or tokens with ${option('calib', 'FILE')}. The result will run where the model does.`,
    { cause: error },
  )
}

/** Models from here on are run without a second, rearranged copy of their weights. */
const LARGE_BYTES = 2 ** 30

/** Bytes of the weights as onnxruntime's CPU kernels have them: float32. */
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

/** @throws E_CALIBRATION, E_TOKENIZER; E_RUNTIME when the model itself does not run. */
export async function calibrate(
  { model, folder, io, seqLen }: Analysis,
  options: CalibrationOptions & { session: SessionOptions; onEvent?: OnEvent; signal?: AbortSignal },
): Promise<Calibration> {
  const { calib, samples, seed, session, onEvent, signal } = options
  const why = io.seqLen === undefined ? 'the model has no more positions' : 'the model takes no others'
  const notes = seqLen < options.seqLen ? [`sequences are ${seqLen} tokens long: ${why}`] : []
  if (calib !== undefined) {
    const tokenizer = () => loadTokenizer(folder)
    return { ...loadSamples(calib, tokenizer, { samples, seqLen, seed, vocabSize: io.vocabSize }), notes }
  }
  const weights = floatBytes(model.graph)
  checkMemory(weights, totalmem())
  // Memory of large models is better spent on the weights themselves: they are mapped then.
  const prepacking = weights < LARGE_BYTES
  const writer = await openModel(model.path!, { ...session, prepacking }).catch(modelDoesNotRun)
  try {
    const onProgress = (done: number, total: number) => {
      signal?.throwIfAborted()
      onEvent?.({ type: 'calibrating', done, total })
    }
    const generated = await generateTokens(writer, io, { samples, seqLen, seed, onProgress }).catch(modelDoesNotRun)
    return { ...generated, notes: [`calibrated with text the model wrote itself (no ${option('calib')})`, ...notes] }
  } finally {
    await writer.release()
  }
}
