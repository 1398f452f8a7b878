/** @file Writes quantized embeddings and lm_head into the user's graph. Tables become GatherBlockQuantized and share lm_head's weight. */

import { floatTypeOf } from '../../graph/float-type.ts'
import { GraphWriter } from '../../graph/graph-writer.ts'
import { type Model, type Node, replaceOutput, type Value } from '../../graph/ir.ts'
import { isRefused } from '../../graph/refusal.ts'
import { findStoredWeight } from '../../graph/stored-weight.ts'
import type { Tensor } from '../../graph/tensor.ts'
import { readFloats } from '../../kernels/float16.ts'
import type { PackedWeight } from '../../kernels/pack/matmul-nbits.ts'
import { packRounded, tableRows } from '../../kernels/pack/rounded.ts'
import type { LearnedOuter } from '../learn/learn-outer.ts'
import { type EmbeddingJob, storedWeightOf } from '../plan/plan-embeddings.ts'
import type { ExportOptions } from '../terms/options.ts'
import { exportLinears } from './export-linears.ts'

/** A weight to write. With clip ratios its ranges are clipped; without them it is rounded to nearest. */
type ExportedWeight = EmbeddingJob & Pick<LearnedOuter, 'clip'>

/**
 * Quantizes `weights` and replaces the nodes that read them, in place. Weights are read and packed one after the other.
 * @throws E_UNSUPPORTED when a weight is not finite or too large.
 */
export function exportEmbeddings(model: Model, weights: readonly ExportedWeight[], options: ExportOptions): void {
  for (const weight of weights) {
    const { quantizer, lmHead, embedding, clip } = weight
    const { inFeatures, outFeatures } = (lmHead ?? embedding)!
    const ratios = clip && { max: readFloats(clip.max), min: readFloats(clip.min) }
    const packed = packRounded({ ...storedWeightOf(weight), clip: ratios }, quantizer)
    // GatherBlockQuantized takes rows and MatMulNBits blocks. The bytes are the same.
    const table = embedding && { ...packed, b: tableRows(packed, inFeatures) }
    if (lmHead) {
      const { origin, otherBranch } = lmHead
      exportLinears(model, [{ origin, otherBranch, packed: table ?? packed, inFeatures, outFeatures }], options)
    }
    if (table) exportTable(model, embedding.origin, table)
  }
}

/** Replaces every lookup in the table that `origin` reads, bodies included; `b` [vocabulary, hidden * bits / 8]. */
function exportTable(model: Model, origin: Node, { bits, blockSize, b, scales, zeroPoints }: PackedWeight): void {
  const writer = new GraphWriter(model)
  const own = findStoredWeight(origin.inputs[0]!)
  const isLookup = (node: Node): boolean => {
    if (node === origin) return true
    if (node.kind !== 'Gather' || node.int('axis', 0) !== 0 || isRefused(own)) return false
    const other = findStoredWeight(node.inputs[0]!)
    return !isRefused(other) && other.tensor === own.tensor && other.transposed === own.transposed
  }
  const { name } = origin.inputs[0]!
  // lm_head may have stored these tensors already.
  const constant = (suffix: string, data: Tensor): Value =>
    writer.graph.initializers.find(known => known.tensor === data) ?? writer.constant(`${name}_${suffix}`, data)
  const constants = [
    constant(`Q${bits}`, b),
    constant('scales', scales),
    ...(zeroPoints ? [constant('zero_points', zeroPoints)] : []),
  ]
  writer.rewriteNodes(node => {
    if (!isLookup(node)) return [node]
    const [output] = node.outputs as [Value]
    const g = writer.at({ values: output.name, nodes: node.name })
    const [data, ...rest] = constants as [Value, ...Value[]]
    const rows = g.op(
      'GatherBlockQuantized',
      [data, node.inputs[1], ...rest],
      { bits, block_size: blockSize, gather_axis: 0, quantize_axis: 1 },
      { role: `Q${bits}`, domain: 'com.microsoft', dtype: scales.dtype },
    )
    rows.producer!.source = node.source
    replaceOutput(g.typed(rows, floatTypeOf(output)), output)
    return writer.take()
  })
  writer.dropOrphans()
}
