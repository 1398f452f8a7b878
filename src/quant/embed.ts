/** @file Runs what comes before the first block: from token ids to hidden states. */

import type { ActivationStore } from '../calibration/activation-store.ts'
import { feedsFor, rowsOf } from '../calibration/model-io.ts'
import { extract } from '../graph/extract.ts'
import { Graph } from '../graph/ir.ts'
import { readElements } from '../graph/tensor.ts'
import { compile } from '../kernels/session.ts'
import type { Analysis } from './analyze.ts'
import type { Calibration } from './calibrate.ts'

/** Hidden states of the calibration tokens where the first block begins: `to` holds those of one run as one sample. */
export async function embed(
  analysis: Analysis,
  { tokens, samples, seqLen }: Calibration,
  to: ActivationStore,
): Promise<void> {
  const { working, io, blocks } = analysis
  const graph = new Graph('prefix')
  const { input } = blocks[0]!
  const batch = rowsOf(io, 1)
  graph.inputs = working.inputs
  graph.outputs = [input]
  graph.nodes = extract(working, working.inputs, [input])
  const read = new Set(graph.nodes.flatMap(node => node.inputs))
  graph.initializers = working.initializers.filter(value => read.has(value))
  const session = await compile(graph, { optimization: 'disabled' })
  try {
    for (let i = 0; i < to.samples; i++) {
      const count = Math.min(batch, samples - i * batch)
      const ids = tokens.subarray(i * batch * seqLen, (i * batch + count) * seqLen)
      const { name } = io.inputIds
      const hidden = await session.run({ [name]: feedsFor(io, ids, count, seqLen)[name]! })
      to.write(i, readElements(hidden[input.name]!) as Float32Array)
    }
  } finally {
    await session.release()
  }
}
