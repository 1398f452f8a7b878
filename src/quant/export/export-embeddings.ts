/** @file Writes quantized embeddings and lm_head into the user's graph. A table shares its bytes with lm_head where both are one tensor. */

import { floatTypeOf } from '../../graph/float-type.ts'
import { GraphWriter } from '../../graph/graph-writer.ts'
import { type Model, type Node, replaceOutput, type Value } from '../../graph/ir.ts'
import { isRefused } from '../../graph/refusal.ts'
import { findStoredWeight } from '../../graph/stored-weight.ts'
import type { Tensor } from '../../graph/tensor.ts'
import { readFloats } from '../../kernels/float16.ts'
import { packStored } from '../../kernels/pack/layouts.ts'
import type { PackedWeight } from '../../kernels/pack/matmul-nbits.ts'
import { packRounded, tableRows } from '../../kernels/pack/rounded.ts'
import type { Linear } from '../find/linears.ts'
import type { LearnedOuter } from '../learn/learn-outer.ts'
import { type EmbeddingJob, isStandardLookup, outerLayout, storedWeightOf } from '../plan/plan-embeddings.ts'
import type { ExportOptions } from '../terms/options.ts'
import { exportLinears } from './export-linears.ts'
import { requireOpset } from './quantize-rows.ts'
import { type QuantizedTable, writeBlockLookup, writeStandardLookup } from './write-lookup.ts'

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
    const stored = { ...storedWeightOf(weight), clip: ratios }
    const rows = embedding && packRounded(stored, quantizer)
    // GatherBlockQuantized takes rows and MatMulNBits blocks. The bytes are the same.
    const table = rows && { ...rows, b: tableRows(rows, inFeatures) }
    if (lmHead) {
      const { origin, otherBranch } = lmHead
      const packed = table ?? packStored(outerLayout(weight, options), stored, quantizer)
      exportLinears(model, [{ origin, otherBranch, packed, inFeatures, outFeatures }], options)
    }
    if (embedding && table) exportTable(model, embedding, table, isStandardLookup(options))
  }
}

/** Replaces every lookup in the table that `origin` reads, bodies included; `b` [vocabulary, hidden * bits / 8]. */
function exportTable(
  model: Model,
  { origin, inFeatures: hidden }: Linear,
  { bits, blockSize, b, scales, zeroPoints }: PackedWeight,
  isStandard: boolean,
): void {
  const writer = new GraphWriter(model)
  if (isStandard) requireOpset(writer, 'embeddings quantized by standard operators')
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
  const table: QuantizedTable = {
    codes: constant(`Q${bits}`, b),
    scales: constant('scales', scales),
    zeroPoints: zeroPoints && constant('zero_points', zeroPoints),
    ...{ bits, blockSize, blocks: scales.dims[1]!, hidden, dtype: scales.dtype },
  }
  writer.rewriteNodes(node => {
    if (!isLookup(node)) return [node]
    const [output] = node.outputs as [Value]
    const g = writer.at({ values: output.name, nodes: node.name })
    const rows = (isStandard ? writeStandardLookup : writeBlockLookup)(g, node.inputs[1]!, table)
    rows.producer!.source = node.source
    replaceOutput(g.typed(rows, floatTypeOf(output)), output)
    return writer.take()
  })
  writer.dropOrphans()
}
