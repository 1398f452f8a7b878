/** @file Comparison of the output with its source: perplexity on calibration text that nothing was learned from. */

import { totalmem } from 'node:os'
import type { Calibration } from '../calibration/calibrate.ts'
import { perplexity } from '../calibration/perplexity.ts'
import { describeIo } from '../decoder/model-io.ts'
import { QuantError } from '../errors.ts'
import type { Model } from '../graph/ir.ts'
import { loadModel } from '../graph/onnx-file/load.ts'
import { openModel } from '../kernels/session.ts'
import { parametersOf } from './foretell.ts'
import type { Run } from './terms/options.ts'
import type { CheckReport } from './terms/report.ts'

/** Part of the memory that the weights of the float model may take. Quantizing itself needs memory for one block. */
const MEMORY_SHARE = 1 / 4

/** Bytes of weights from which on a model is run without prepacking, which would copy all of them. */
const LARGE_BYTES = 2 ** 30

type Skipped = { readonly skipped: string }

/** Reason for which nothing is compared; undefined where it can be. */
function obstacle(calibration: Calibration | undefined, model: Model): string | undefined {
  if (!calibration) return 'the run needed no text'
  if (!calibration.heldOut) return 'the calibration text is too short to keep a part of it out of learning'
  if (4 * parametersOf(model.graph) > MEMORY_SHARE * totalmem())
    return 'the float model takes too much memory to be run as a whole'
  return undefined
}

/** Perplexity of a model file on windows of tokens. */
async function measure(
  model: Model,
  windows: readonly BigInt64Array[],
  which: 'float' | 'quantized',
  { session: settings, onEvent, signal }: Run,
): Promise<number> {
  const prepacking = 4 * parametersOf(model.graph) < LARGE_BYTES
  const session = await openModel(model.path!, { ...settings, prepacking })
  try {
    const { perplexity: value } = await perplexity(session, describeIo(model), windows, {
      onProgress: (done, total) => {
        signal?.throwIfAborted()
        onEvent?.({ type: 'checking', model: which, done, total })
      },
    })
    return value
  } finally {
    await session.release()
  }
}

/**
 * Perplexity of both models on the windows that the calibration kept. The output is there already, so a model that cannot be read or run is no
 * failure of the run.
 * @param source, output paths of the two model files. @throws the AbortSignal's reason when aborted.
 */
export async function checkPerplexity(
  run: Run,
  calibration: Calibration | undefined,
  source: string,
  output: string,
): Promise<CheckReport | Skipped> {
  if (!run.check) return { skipped: 'not asked for' }
  try {
    const model = loadModel(source)
    const skipped = obstacle(calibration, model)
    if (skipped !== undefined) return { skipped }
    const { heldOut, seqLen } = calibration as Required<Calibration>
    const count = heldOut!.length / seqLen
    const windows = Array.from({ length: count }, (_, i) => heldOut!.subarray(i * seqLen, (i + 1) * seqLen))
    const float = await measure(model, windows, 'float', run)
    const quantized = await measure(loadModel(output), windows, 'quantized', run)
    const tokens = count * (seqLen - 1)
    return { windows: count, seqLen, tokens, float, quantized, ratio: quantized / float }
  } catch (error) {
    run.signal?.throwIfAborted()
    if (!(error instanceof QuantError)) throw error
    return { skipped: `the models could not be compared here: ${error.message}` }
  }
}
