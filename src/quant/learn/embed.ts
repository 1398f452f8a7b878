/** @file Runs the model's part before the first block: token ids to hidden states. */

import type { ActivationStore } from '../../calibration/activation-store.ts'
import type { Calibration } from '../../calibration/calibrate.ts'
import { feedsFor, rowsOf } from '../../decoder/feeds.ts'
import { extract } from '../../graph/extract.ts'
import { staticShape } from '../../graph/shape.ts'
import { readFloats, storeFloats } from '../../kernels/float16.ts'
import { compile } from '../../kernels/session.ts'
import type { Analysis } from '../find/analysis.ts'
import { checkStates } from '../find/sound-numbers.ts'

/**
 * Writes the hidden states of the calibration tokens before the first block. One run is one sample of `to`.
 * @throws E_UNSUPPORTED naming the token whose states are NaN or infinite: most likely its row of the embedding is.
 */
export async function embed(
  analysis: Analysis,
  { tokens, samples, seqLen }: Calibration,
  to: ActivationStore,
): Promise<void> {
  const { working, io, blocks } = analysis
  const { input } = blocks[0]!
  const batch = rowsOf(io, 1)
  const session = await compile(extract(working, working.inputs, [input]), { optimization: 'disabled' })
  try {
    for (let i = 0; i < to.samples; i++) {
      const count = Math.min(batch, samples - i * batch)
      const ids = tokens.subarray(i * batch * seqLen, (i * batch + count) * seqLen)
      const { name } = io.inputIds
      const hidden = await session.run({ [name]: feedsFor(io, ids, count, seqLen)[name]! })
      const shape = staticShape(input)
      const states = storeFloats(to.dtype, shape, readFloats(hidden[input.name]!))
      // Rows after the last sample repeat it.
      const tokenAt = (position: number) => Number(ids[Math.min(position, ids.length - seqLen + (position % seqLen))])
      checkStates(readFloats(states), shape.at(-1)!, i, 'before the first block', to.dtype, tokenAt)
      to.writeTensor(i, states)
    }
  } finally {
    await session.release()
  }
}
