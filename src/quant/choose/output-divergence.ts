/** @file Divergence of an output file from the float model, on samples that nothing was learned from. */

import { ActivationStore, suffixOf } from '../../calibration/activation-store.ts'
import type { Calibration } from '../../calibration/calibrate.ts'
import { divergenceAt, type WindowLogits } from '../../calibration/measures.ts'
import { feedsFor, runsFor } from '../../decoder/feeds.ts'
import { describeIo } from '../../decoder/model-io.ts'
import type { WorkFolder } from '../../files/work-folder.ts'
import { loadModel } from '../../graph/onnx-file/load.ts'
import { staticShape } from '../../graph/shape.ts'
import { readFloats } from '../../kernels/float16.ts'
import { openModel } from '../../kernels/session.ts'
import type { Analysis } from '../find/analysis.ts'
import { floatVersion, readWeights } from '../learn/block-version.ts'
import { embed } from '../learn/embed.ts'
import { runBlock } from '../learn/run-block.ts'
import { blockPlanner } from '../plan/block-planner.ts'
import type { Run } from '../terms/options.ts'
import type { ChoiceReport } from '../terms/sensitivity.ts'
import { floatLogits } from './float-logits.ts'

/** Mean over `tokens` rows of KL(p || q), where p and q are the distributions of logits [tokens, vocabulary]; in float64. */
export function meanDivergence(p: Float32Array, q: Float32Array, tokens: number): number {
  const vocabulary = p.length / tokens
  const [reference, model] = [p, q].map(logits => ({ logits, start: 0, vocabulary })) as [WindowLogits, WindowLogits]
  let sum = 0
  for (let token = 0; token < tokens; token++) sum += divergenceAt(reference, model, token).kl
  return sum / tokens
}

/**
 * Mean KL divergence of a token, from the float model to the output file. The float model is run block by block, so that it need not fit
 * into memory; the output is opened as any user of onnxruntime would.
 * @throws E_RUNTIME when onnxruntime refuses the output; the reason of an abort.
 */
export async function outputDivergence(
  path: string,
  options: Run,
  analysis: Analysis,
  kept: Calibration,
  work: Pick<WorkFolder, 'file'>,
): Promise<Pick<ChoiceReport, 'measuredKl' | 'measuredTokens'>> {
  const { session, onEvent, signal } = options
  const { blocks, io } = analysis
  const { seqLen, samples, tokens } = kept
  const runs = runsFor(io, samples)
  const planOf = blockPlanner(options, analysis)
  const states = new ActivationStore(work.file(`kept${suffixOf('float32')}`), runs, staticShape(blocks[0]!.input))
  const total = blocks.length + runs
  const progress = (done: number) => {
    signal?.throwIfAborted()
    onEvent?.({ type: 'choosing', phase: 'divergence', done, total })
  }
  try {
    await embed(analysis, kept, states)
    for (const [i, block] of blocks.entries()) {
      await runBlock(planOf(block), floatVersion(readWeights(block)), { from: states, to: states }, session)
      progress(i + 1)
    }
    const float = await floatLogits(analysis, session)
    try {
      const output = await openModel(path, { ...session, matmul: undefined })
      try {
        const ports = describeIo(loadModel(path))
        let sum = 0
        const { batch = 1 } = io
        for (let i = 0; i < runs; i++) {
          const count = Math.min(batch, samples - i * batch)
          const ids = tokens.subarray(i * batch * seqLen, (i * batch + count) * seqLen)
          const logits = await output.run(feedsFor(ports, ids, count, seqLen), [ports.logits.name])
          const reference = await float.of(states.tensor(i, 1))
          const numbers = readFloats(logits[ports.logits.name]!)
          const each = numbers.length / (batch * seqLen)
          const length = count * seqLen * each
          sum += count * meanDivergence(reference.subarray(0, length), numbers.subarray(0, length), count * seqLen)
          progress(blocks.length + i + 1)
        }
        return { measuredKl: sum / samples, measuredTokens: samples * seqLen }
      } finally {
        await output.release()
      }
    } finally {
      await float.release()
    }
  } finally {
    states.remove()
  }
}
