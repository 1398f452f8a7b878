/** @file Runs what comes before the first block: from token ids to hidden states. */

import type { ActivationStore } from '../calibration/activation-store.ts'
import { extract } from '../graph/extract.ts'
import { Graph } from '../graph/ir.ts'
import { staticShape } from '../graph/shape.ts'
import { readElements, tensorOf } from '../graph/tensor.ts'
import { compile } from '../kernels/session.ts'
import type { Analysis } from './analyze.ts'
import type { Calibration } from './calibrate.ts'
import { checkStates } from './sound-numbers.ts'

/**
 * Hidden states of the calibration tokens where the first block begins.
 * @throws E_UNSUPPORTED naming the token whose states are no sound numbers: its row of the embedding, most likely.
 */
export async function embed(
  analysis: Analysis,
  { tokens, samples, seqLen }: Calibration,
  to: ActivationStore,
): Promise<void> {
  const { working, io, blocks } = analysis
  const graph = new Graph('prefix')
  const { input } = blocks[0]!
  graph.inputs = working.inputs
  graph.outputs = [input]
  graph.nodes = extract(working, working.inputs, [input])
  const read = new Set(graph.nodes.flatMap(node => node.inputs))
  graph.initializers = working.initializers.filter(value => read.has(value))
  const session = await compile(graph, { optimization: 'disabled' })
  try {
    for (let i = 0; i < samples; i++) {
      const ids = tensorOf('int64', [1, seqLen], tokens.subarray(i * seqLen, (i + 1) * seqLen))
      const hidden = await session.run({ [io.inputIds.name]: ids })
      const states = readElements(hidden[input.name]!) as Float32Array
      const tokenAt = (position: number) => Number(tokens[i * seqLen + position])
      checkStates(states, staticShape(input).at(-1)!, i, 'before the first block', tokenAt)
      to.write(i, states)
    }
  } finally {
    await session.release()
  }
}
