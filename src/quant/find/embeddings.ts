/** @file lm_head and embeddings, found by structure: the product that makes the logits, and the tables that token ids are looked up in. */

import { dependents } from '../../graph/dependencies.ts'
import type { Node, Value } from '../../graph/ir.ts'
import { keepsElements } from '../../graph/ops.ts'
import { isRefused, type Refused, separate } from '../../graph/refusal.ts'
import { staticShape } from '../../graph/shape.ts'
import { findStoredWeight } from '../../graph/stored-weight.ts'
import type { Analysis } from './analysis.ts'
import { findLinears, labelOf, type Linear } from './linears.ts'

/** The weights over the vocabulary; refused where they are not found. */
export interface EmbeddingLayers {
  readonly lmHead: Linear | Refused<Node | Value>
  /** Each table [vocabulary, hidden] is described as a linear with K = hidden and N = vocabulary. */
  readonly embeddings: readonly Linear[] | Refused<Node | Value>
}

/** The op changes the shape or type of token ids, not the ids. */
const passesIds = (kind: string): boolean => keepsElements(kind) || kind === 'Transpose' || kind === 'Expand'

function isTokenIds(indices: Value, inputs: readonly Value[]): boolean {
  let value = indices
  while (value.producer && passesIds(value.producer.kind)) value = value.producer.inputs[0]!
  return inputs.includes(value)
}

/** First of `candidates` on the way back from `value`, through nodes with one input that depends on the tokens. */
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

function embeddingOf(node: Node): Linear | Refused<Node> {
  const refused = (reason: string): Refused<Node> => ({ at: node, reason })
  const { origin } = node
  const stored = findStoredWeight(node.inputs[0]!)
  if (isRefused(stored)) return refused(`its table is ${stored.reason}`)
  if (!origin || origin.kind !== 'Gather') return refused(`its table is inside ${origin?.kind ?? 'a fused operation'}`)
  if (origin.int('axis', 0) !== 0) return refused('its table has tokens in columns')
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
export function findEmbeddings({ working, blocks }: Pick<Analysis, 'working' | 'blocks'>): EmbeddingLayers {
  const data = dependents(working.nodes, working.inputs)
  const inside = new Set(blocks.flatMap(({ nodes }) => nodes))
  const outside = working.nodes.filter(node => !inside.has(node))
  const { linears, skipped } = findLinears(outside, data)
  const products = new Map<Node, Linear | Refused<Node>>([
    ...linears.map(linear => [linear.node, linear] as const),
    ...skipped.map(refused => [refused.at, refused] as const),
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
  const { results, refused } = separate(lookups.map(embeddingOf))
  // A table that is looked up twice is one table.
  const tables = results.filter(({ weight }, i, all) => all.findIndex(other => other.weight === weight) === i)
  return {
    lmHead: head ? products.get(head)! : { at: logits!, reason: 'no product with a stored weight makes the logits' },
    embeddings:
      tables.length > 0
        ? tables
        : (refused[0] ?? { at: working.inputs[0]!, reason: 'no table is looked up by the token ids' }),
  }
}

/** True for a table that is the tensor lm_head multiplies with, in the same orientation. */
export const isTied = (lmHead: EmbeddingLayers['lmHead'], table: Linear): boolean =>
  !isRefused(lmHead) && lmHead.weight === table.weight && lmHead.transposed === table.transposed
