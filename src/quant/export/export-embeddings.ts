/**
 * @file Writes quantized embeddings and lm_head into the user's graph. Tables become GatherBlockQuantized and share lm_head's weight,
 * unless that has the QDQ form.
 */

import { floatTypeOf } from '../../graph/float-type.ts'
import { GraphWriter } from '../../graph/graph-writer.ts'
import { type Model, type Node, replaceOutput, type Value } from '../../graph/ir.ts'
import { isRefused } from '../../graph/refusal.ts'
import { findStoredWeight } from '../../graph/stored-weight.ts'
import type { Tensor } from '../../graph/tensor.ts'
import { packStored } from '../../kernels/pack/layouts.ts'
import type { PackedWeight } from '../../kernels/pack/matmul-nbits.ts'
import { packRounded, tableRows } from '../../kernels/pack/rounded.ts'
import type { EmbeddingJob } from '../plan/plan-embeddings.ts'
import type { ExportOptions } from '../terms/options.ts'
import { exportLinears } from './export-linears.ts'

/**
 * Quantizes the weights of `jobs` and replaces the nodes that read them, in place. Weights are read and packed one after the other.
 * @throws E_UNSUPPORTED when a weight is not finite or too large.
 */
export function exportEmbeddings(model: Model, jobs: readonly EmbeddingJob[], options: ExportOptions): void {
  for (const { quantizer, lmHead, embedding } of jobs) {
    const { name, weight, transposed, inFeatures, outFeatures } = (lmHead ?? embedding)!
    const stored = { name, tensor: weight.tensor!, transposed }
    const rows = embedding && packRounded(stored, quantizer)
    // GatherBlockQuantized takes rows and MatMulNBits blocks. The bytes are the same.
    const table = rows && { ...rows, b: tableRows(rows, inFeatures) }
    if (lmHead) {
      const { origin, otherBranch } = lmHead
      const isQdq = options.format === 'qdq'
      const packed = (isQdq ? undefined : table) ?? packStored(isQdq ? 'dequantize' : 'nbits', stored, quantizer)
      exportLinears(model, [{ origin, otherBranch, packed, inFeatures, outFeatures }], options)
    }
    if (embedding && table) exportTable(model, embedding.origin, table)
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
