/** @file Plan of lm_head and embeddings: their quantizers, tied or apart. */

import { option } from '../../option-mark.ts'
import { QuantError } from '../../errors.ts'
import { floatTypeOf } from '../../graph/float-type.ts'
import type { Node } from '../../graph/ir.ts'
import { isRefused, type Refused } from '../../graph/refusal.ts'
import { findStoredWeight } from '../../graph/stored-weight.ts'
import type { Tensor } from '../../graph/tensor.ts'
import type { Layout } from '../../kernels/pack/layouts.ts'
import type { WeightQuantizer } from '../../kernels/qparams.ts'
import type { StoredWeight } from '../../kernels/round/tile-layout.ts'
import type { Analysis } from '../find/analysis.ts'
import { findEmbeddings, isTied, type EmbeddingLayers } from '../find/embeddings.ts'
import type { Linear } from '../find/linears.ts'
import { readersElsewhere } from '../find/other-branch.ts'
import type { ExportOptions, Format } from '../terms/options.ts'
import type { EmbeddingReport, OuterLearning } from '../terms/report.ts'
import type { EmbeddingBits, EmbeddingOptions, OuterWeight } from '../terms/scheme.ts'

/**
 * Elements of a token's row that share a scale: both operators take 16 and 32, and share their bytes when the row is a whole number
 * of groups.
 */
const GROUP = 32

const SMALLER_GROUP = 16

/** One weight to be quantized, or two that are one tensor. */
export interface EmbeddingJob {
  readonly quantizer: WeightQuantizer
  /** The same tensor in both where both are there. */
  readonly lmHead: (Linear & { readonly otherBranch: readonly Node[] }) | undefined
  readonly embedding: Linear | undefined
}

/** The weight of a job in its file. */
export function storedWeightOf({ lmHead, embedding }: EmbeddingJob): StoredWeight {
  const { name, weight, transposed } = (lmHead ?? embedding)!
  return { name, tensor: weight.tensor!, transposed }
}

export interface EmbeddingPlan {
  readonly jobs: readonly EmbeddingJob[]
  /** Float tensors that lm_head and embeddings read no more. */
  readonly replaced: readonly Tensor[]
  readonly notes: readonly string[]
}

/** Forms that the weights are written in; undefined: those of the operators of com.microsoft. */
type Forms = Partial<Pick<ExportOptions, 'format' | 'lookup'>>

/** True when tables are looked up by operators of ai.onnx alone. */
export const isStandardLookup = ({ format = 'integer', lookup }: Forms): boolean =>
  (lookup ?? (format === 'integer' ? 'operator' : 'standard')) === 'standard'

/** Layout of lm_head in each form. A table has that of MatMulNBits in all of them. */
const HEAD_LAYOUTS: Readonly<Record<Format, Layout>> = {
  integer: 'nbits',
  portable: 'planes',
  qdq: 'dequantize',
}

/** Layout of a weight outside the blocks. */
export const outerLayout = ({ embedding }: EmbeddingJob, { format = 'integer' }: Forms): Layout =>
  embedding ? 'nbits' : HEAD_LAYOUTS[format]

/** Scales are stored in the type of the weight, as it is stored in the user's graph. */
function scaleDtypeOf({ origin }: Linear): WeightQuantizer['scaleDtype'] {
  const weight = origin.inputs[origin.kind === 'Gather' ? 0 : 1]!
  const stored = findStoredWeight(weight)
  return (isRefused(stored) ? floatTypeOf(weight) : stored.tensor.dtype) === 'float16' ? 'float16' : 'float32'
}

function quantizerOf(linear: Linear, bits: EmbeddingBits, symmetric: boolean): WeightQuantizer {
  const { inFeatures } = linear
  const group = inFeatures % GROUP !== 0 && inFeatures % SMALLER_GROUP === 0 ? SMALLER_GROUP : GROUP
  return { bits, group, symmetric, scaleDtype: scaleDtypeOf(linear) }
}

/** Quantizer of an lm_head that shares no table. */
function headQuantizer(linear: Linear, bits: EmbeddingBits, symmetric: boolean, layout: Layout): WeightQuantizer {
  const quantizer = quantizerOf(linear, bits, symmetric)
  // As in the blocks: planes have one float32 scale per output, and TensorRT and WebNN take no negative scales of DequantizeLinear.
  if (layout === 'planes') return { ...quantizer, group: linear.inFeatures, scaleDtype: 'float32' }
  return layout === 'dequantize' ? { ...quantizer, positiveScale: true } : quantizer
}

/** @throws E_UNSUPPORTED when what is wanted is not there or cannot be stored. */
function required<T>(found: T | Refused<unknown>, flag: string): T {
  if (!isRefused(found)) return found
  throw new QuantError(
    'E_UNSUPPORTED',
    `${flag}: ${found.reason}`,
    `Leave out ${flag}: \`omniquant inspect\` shows what there is.`,
  )
}

/** Bits of each weight outside the blocks; undefined = float. */
type Bits = Readonly<Record<OuterWeight, EmbeddingBits | undefined>>

const WORDS: Readonly<Record<OuterWeight, string>> = { lmHead: 'lm_head', embedding: 'the embedding' }

const fillsBytes = ({ inFeatures }: Linear, bits: EmbeddingBits | undefined): boolean =>
  (inFeatures * (bits ?? 8)) % 8 === 0

/** @throws E_UNSUPPORTED when rows of the table do not fill bytes. */
function checkRows(table: Linear, bits: EmbeddingBits): void {
  const { name, inFeatures } = table
  if (fillsBytes(table, bits)) return
  throw new QuantError(
    'E_UNSUPPORTED',
    `${option('embedding', bits)}: rows of ${inFeatures} elements of "${name}" do not fill bytes with ${bits} bits each`,
    `Take ${option('embedding', 8)}.`,
  )
}

/**
 * Bits of the weights outside the blocks. Those that only the target asks for stay float where they cannot be quantized, with a note, and
 * follow the other one where both are one tensor: in different bits it would be stored twice.
 */
function chooseBits(
  { lmHead, embeddings }: EmbeddingLayers,
  { wherePossible = [], ...asked }: EmbeddingOptions,
): { readonly bits: Bits; readonly notes: readonly string[] } {
  const bits: { -readonly [Key in keyof Bits]: Bits[Key] } = { lmHead: asked.lmHead, embedding: asked.embedding }
  const notes: string[] = []
  const leave = (key: OuterWeight, reason: string) => {
    bits[key] = undefined
    notes.push(`${WORDS[key]} stays float: ${reason}`)
  }
  const tables = isRefused(embeddings) ? [] : embeddings
  const ragged = tables.find(table => !fillsBytes(table, bits.embedding))
  const reasons = {
    lmHead: isRefused(lmHead) ? lmHead.reason : undefined,
    embedding: isRefused(embeddings) ? embeddings.reason : ragged && `rows of ${ragged.inFeatures} elements`,
  }
  for (const key of wherePossible) if (reasons[key] !== undefined) leave(key, reasons[key])
  if (!tables.some(table => isTied(lmHead, table))) return { bits, notes }
  for (const key of wherePossible) {
    const other = key === 'lmHead' ? 'embedding' : 'lmHead'
    if (bits[key] === undefined || bits[key] === bits[other]) continue
    if (bits[other] !== undefined) bits[key] = bits[other]
    else leave(key, `it is the same tensor as ${WORDS[other]}, which stays float`)
  }
  return { bits, notes }
}

/**
 * Plans the weights outside the blocks. A tied pair is one job when both are wanted in the same bits.
 * @param symmetric no zero points, as for the blocks' weights.
 * @throws E_UNSUPPORTED when something the user wants is not there or cannot be stored.
 */
export function planEmbeddings(
  analysis: Pick<Analysis, 'model' | 'working' | 'blocks'>,
  options: EmbeddingOptions & Forms,
  symmetric: boolean,
): EmbeddingPlan {
  if (options.lmHead === undefined && options.embedding === undefined) return { jobs: [], replaced: [], notes: [] }
  const found = findEmbeddings(analysis)
  const { bits, notes } = chooseBits(found, options)
  const { lmHead: headBits, embedding: tableBits } = bits
  const head = headBits === undefined ? undefined : required(found.lmHead, option('lmHead'))
  const tables = tableBits === undefined ? [] : required(found.embeddings, option('embedding'))
  for (const table of tables) checkRows(table, tableBits!)
  const traced = new Set(analysis.working.nodes.map(({ origin }) => origin))
  const lmHead = head && {
    ...head,
    otherBranch: readersElsewhere(analysis.model, [head.origin], traced).get(head.origin) ?? [],
  }
  const layout = HEAD_LAYOUTS[options.format ?? 'integer']
  const jobs = tables.map((embedding): EmbeddingJob => {
    const quantizer = quantizerOf(embedding, tableBits!, symmetric)
    const shared = lmHead && layout === 'nbits' && headBits === tableBits && isTied(lmHead, embedding)
    return { quantizer, embedding, lmHead: shared && embedding.inFeatures % quantizer.group === 0 ? lmHead : undefined }
  })
  if (lmHead && !jobs.some(job => job.lmHead))
    jobs.unshift({ quantizer: headQuantizer(lmHead, headBits!, symmetric, layout), lmHead, embedding: undefined })
  return {
    jobs,
    replaced: replacedIn(found, jobs),
    notes: [...notes, ...tiedNotes(found, bits, layout)],
  }
}

/** Tensors of which every reader is in a job. */
function replacedIn({ lmHead, embeddings }: EmbeddingLayers, jobs: readonly EmbeddingJob[]): Tensor[] {
  const tensorOf = ({ weight }: Linear): Tensor => weight.tensor!
  const quantized = jobs.flatMap(job => [job.lmHead, job.embedding].filter(each => each !== undefined))
  const origins = new Set(quantized.map(({ origin }) => origin))
  const readers = [...(isRefused(lmHead) ? [] : [lmHead]), ...(isRefused(embeddings) ? [] : embeddings)]
  const stays = new Set(readers.filter(({ origin }) => !origins.has(origin)).map(tensorOf))
  return [...new Set(quantized.map(tensorOf))].filter(tensor => !stays.has(tensor))
}

/** A tensor that one of two readers no longer needs stays for the other: the file grows. */
function tiedNotes(
  { lmHead, embeddings }: EmbeddingLayers,
  { lmHead: headBits, embedding: tableBits }: Bits,
  layout: Layout,
): string[] {
  const table = isRefused(embeddings) ? undefined : embeddings.find(each => isTied(lmHead, each))
  if (!table) return []
  if (headBits === tableBits)
    return layout !== 'nbits' && headBits !== undefined
      ? [`${table.name} is also lm_head: in this form each has an order of its own, and they are stored twice`]
      : []
  const alone = headBits === undefined ? ['the embedding', option('lmHead')] : ['lm_head', option('embedding')]
  return [
    headBits === undefined || tableBits === undefined
      ? `${table.name} is also lm_head: quantizing only ${alone[0]} keeps the float tensor for the other; give ${alone[1]} too`
      : `${table.name} is also lm_head: in different bits they are stored twice`,
  ]
}

/** The weights as a report for the user, with what was learned. */
export function embeddingReports({
  jobs,
}: {
  readonly jobs: readonly (EmbeddingJob & { readonly learning?: OuterLearning })[]
}): EmbeddingReport[] {
  return jobs.map(({ quantizer: { bits, group }, lmHead, embedding, learning }) => {
    const { name, inFeatures, outFeatures } = (lmHead ?? embedding)!
    const role = lmHead ? (embedding ? 'lm_head+embedding' : 'lm_head') : 'embedding'
    return { role, name, bits, group, vocabSize: outFeatures, hiddenSize: inFeatures, ...learning }
  })
}
