/**
 * @file Weights outside the blocks: the product that makes the logits (lm_head), and the tables token ids are looked up in
 * (embeddings). Finds them by structure and says how they will be quantized; writes nothing.
 */

import { QuantError } from '../errors.ts'
import type { Node, Value } from '../graph/ir.ts'
import { staticShape } from '../graph/shape.ts'
import { findStoredWeight } from '../graph/stored-weight.ts'
import type { WeightQuantizer } from '../kernels/qparams.ts'
import type { Analysis } from './analyze.ts'
import { readersElsewhere } from './branches.ts'
import { dataValues } from './blocks.ts'
import { findLinears, labelOf, type Linear } from './linears.ts'
import type { OuterReport } from './report.ts'
import type { OuterBits } from './scheme.ts'

/**
 * Elements of a token's row that share a scale: both operators take 16 and 32, and share their bytes when the row is a whole number
 * of groups.
 */
const GROUP = 32
const SMALLER_GROUP = 16

/** What was found; for what was not, why. */
export interface OuterLinears {
  readonly lmHead: Linear | string
  /** A table [vocabulary, hidden] as the linear it would be behind one-hot ids' transpose: K = hidden, N = vocabulary. */
  readonly embeddings: readonly Linear[] | string
}

/** Indices that are the token ids themselves, in another shape or type. */
const ID_PLUMBING: ReadonlySet<string> = new Set(['Reshape', 'Unsqueeze', 'Squeeze', 'Cast', 'Transpose', 'Expand'])

function isTokenIds(indices: Value, inputs: readonly Value[]): boolean {
  let value = indices
  while (value.producer && ID_PLUMBING.has(value.producer.kind)) value = value.producer.inputs[0]!
  return inputs.includes(value)
}

/** The node behind `value`, back along what has one input that depends on the tokens, that is among `candidates`. */
function firstOf(value: Value, candidates: ReadonlySet<Node>, data: ReadonlySet<Value>): Node | undefined {
  let current: Value | undefined = value
  while (current?.producer) {
    const { producer }: Value = current
    if (candidates.has(producer!)) return producer
    const inputs: Value[] = producer!.inputs.filter((input): input is Value => input !== undefined && data.has(input))
    current = inputs.length === 1 ? inputs[0] : undefined
  }
  return undefined
}

function embeddingOf(node: Node): Linear | string {
  const { origin } = node
  const stored = findStoredWeight(node.inputs[0]!)
  if ('reason' in stored) return `its table is ${stored.reason}`
  if (!origin || origin.kind !== 'Gather') return `its table is inside ${origin?.kind ?? 'a fused operation'}`
  if (origin.int('axis', 0) !== 0) return 'its table has tokens in columns'
  // The working copy looks up columns of a table that the file transposes first.
  const columns = node.int('axis', 0) === 1
  const [rows, cols] = staticShape(node.inputs[0]!) as [number, number]
  const [outFeatures, inFeatures] = columns ? [cols, rows] : [rows, cols]
  const { weight } = stored
  const name = labelOf(origin, weight)
  // A table with tokens in rows is stored like the transposed weight of a linear.
  return { name, node, origin, weight, transposed: stored.transposed === columns, inFeatures, outFeatures }
}

/** lm_head and embeddings of a model. */
export function findOuterLinears({ working, blocks }: Pick<Analysis, 'working' | 'blocks'>): OuterLinears {
  const data = dataValues(working)
  const inside = new Set(blocks.flatMap(({ nodes }) => nodes))
  const outside = working.nodes.filter(node => !inside.has(node))
  const { linears, skipped } = findLinears(outside, data)
  const products = new Map<Node, Linear | string>([
    ...linears.map(linear => [linear.node, linear] as const),
    ...skipped.map(({ node, reason }) => [node, reason] as const),
  ])
  const [logits] = working.outputs
  const head = firstOf(logits!, new Set(products.keys()), data)
  const lookups = outside.filter(
    node =>
      node.kind === 'Gather' &&
      !data.has(node.inputs[0]!) &&
      staticShape(node.inputs[0]!).length === 2 &&
      isTokenIds(node.inputs[1]!, working.inputs),
  )
  const embeddings = lookups.map(embeddingOf)
  // A table that is looked up twice is one table.
  const tables = embeddings
    .filter(embedding => typeof embedding !== 'string')
    .filter(({ weight }, i, all) => all.findIndex(other => other.weight === weight) === i)
  const [reason] = embeddings.filter(embedding => typeof embedding === 'string')
  return {
    lmHead: head ? products.get(head)! : 'no product with a stored weight makes the logits',
    embeddings: tables.length > 0 ? tables : (reason ?? 'no table is looked up by the token ids'),
  }
}

/** Whether a table is the very tensor that lm_head multiplies with, in the same orientation. */
export const isTied = (lmHead: Linear | string, table: Linear): boolean =>
  typeof lmHead !== 'string' && lmHead.weight === table.weight && lmHead.transposed === table.transposed

/** What is wanted of the weights outside the blocks; they stay float where nothing is. */
export interface OuterOptions {
  readonly lmHead?: OuterBits | undefined
  readonly embedding?: OuterBits | undefined
}

/** One weight to be quantized, or two that are one tensor. */
export interface OuterJob {
  readonly quantizer: WeightQuantizer
  /** The same tensor in both where both are there. */
  readonly lmHead: (Linear & { readonly twins: readonly Node[] }) | undefined
  readonly embedding: Linear | undefined
}

export interface OuterPlan {
  readonly jobs: readonly OuterJob[]
  readonly notes: readonly string[]
}

function quantizerOf({ inFeatures, weight }: Linear, bits: OuterBits, symmetric: boolean): WeightQuantizer {
  const group = inFeatures % GROUP !== 0 && inFeatures % SMALLER_GROUP === 0 ? SMALLER_GROUP : GROUP
  return { bits, group, symmetric, scaleDtype: weight.tensor!.dtype === 'float16' ? 'float16' : 'float32' }
}

/** @throws E_UNSUPPORTED when what is wanted is not there or cannot be stored. */
function required<T>(found: T | string, flag: string): T {
  if (typeof found !== 'string') return found
  throw new QuantError(
    'E_UNSUPPORTED',
    `${flag}: ${found}`,
    `Leave out ${flag}: \`omniquant inspect\` shows what there is.`,
  )
}

/** @throws E_UNSUPPORTED when rows of the table do not fill bytes. */
function checkRows({ name, inFeatures }: Linear, bits: OuterBits): void {
  if ((inFeatures * bits) % 8 === 0) return
  throw new QuantError(
    'E_UNSUPPORTED',
    `--embedding ${bits}: rows of ${inFeatures} elements of "${name}" do not fill bytes with ${bits} bits each`,
    'Take --embedding 8.',
  )
}

/**
 * What happens to the weights outside the blocks. A tied pair is one job when both are wanted in the same bits.
 * @param symmetric no zero points, as for the blocks' weights.
 * @throws E_UNSUPPORTED when something wanted is not there or cannot be stored.
 */
export function planOuter(
  analysis: Pick<Analysis, 'model' | 'working' | 'blocks'>,
  { lmHead: headBits, embedding: tableBits }: OuterOptions,
  symmetric: boolean,
): OuterPlan {
  if (headBits === undefined && tableBits === undefined) return { jobs: [], notes: [] }
  const found = findOuterLinears(analysis)
  const head = headBits === undefined ? undefined : required(found.lmHead, '--lm-head')
  const tables = tableBits === undefined ? [] : required(found.embeddings, '--embedding')
  for (const table of tables) checkRows(table, tableBits!)
  const traced = new Set(analysis.working.nodes.map(({ origin }) => origin))
  const lmHead = head && {
    ...head,
    twins: readersElsewhere(analysis.model, [head.origin], traced).get(head.origin) ?? [],
  }
  const jobs = tables.map((embedding): OuterJob => {
    const quantizer = quantizerOf(embedding, tableBits!, symmetric)
    const shared = lmHead && headBits === tableBits && isTied(lmHead, embedding)
    return { quantizer, embedding, lmHead: shared && embedding.inFeatures % quantizer.group === 0 ? lmHead : undefined }
  })
  if (lmHead && !jobs.some(job => job.lmHead))
    jobs.unshift({ quantizer: quantizerOf(lmHead, headBits!, symmetric), lmHead, embedding: undefined })
  return { jobs, notes: tiedNotes(found, headBits, tableBits) }
}

/** A tensor that one of two readers no longer needs stays for the other: the file grows. */
function tiedNotes(
  { lmHead, embeddings }: OuterLinears,
  headBits: OuterBits | undefined,
  tableBits: OuterBits | undefined,
): string[] {
  const table = typeof embeddings === 'string' ? undefined : embeddings.find(each => isTied(lmHead, each))
  if (!table || headBits === tableBits) return []
  const alone = headBits === undefined ? ['the embedding', '--lm-head'] : ['lm_head', '--embedding']
  return [
    headBits === undefined || tableBits === undefined
      ? `${table.name} is also lm_head: quantizing only ${alone[0]} keeps the float tensor for the other; give ${alone[1]} too`
      : `${table.name} is also lm_head: in different bits they are stored twice`,
  ]
}

/** What was planned, for the user. */
export function outerReports({ jobs }: OuterPlan): OuterReport[] {
  return jobs.map(({ quantizer: { bits, group }, lmHead, embedding }) => {
    const { name, inFeatures, outFeatures } = (lmHead ?? embedding)!
    const role = lmHead ? (embedding ? 'lm_head+embedding' : 'lm_head') : 'embedding'
    return { role, name, bits, group, vocabSize: outFeatures, hiddenSize: inFeatures }
  })
}
