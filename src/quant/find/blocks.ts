/**
 * @file Finds decoder blocks by structure. Every path from the input to the logits passes through the input and the output of a block,
 * and each block holds one attention. Knows no model family; names are only labels.
 */

import { QuantError } from '../../errors.ts'
import { dependents } from '../../graph/dependencies.ts'
import type { Graph, Node, Value } from '../../graph/ir.ts'
import { printNode } from '../../graph/print.ts'
import type { Refused } from '../../graph/refusal.ts'
import { findLinears, type Linear } from './linears.ts'

/** A decoder block: `output` depends on the model's input through `input` alone. */
export interface Block {
  readonly index: number
  /** Hidden states [batch, tokens, hidden] going in, and coming out. */
  readonly input: Value
  readonly output: Value
  /** Nodes of the working copy that depend on `input`, in order. */
  readonly nodes: readonly Node[]
  readonly linears: readonly Linear[]
  /** Products whose weight stays float. */
  readonly skipped: readonly Refused<Node>[]
}

/** Nodes between two neighbouring cuts. */
interface Segment {
  readonly input: Value
  readonly output: Value
  readonly nodes: readonly Node[]
}

/** Splits the graph at every value that alone crosses from what is before it to what is after it. */
function segments(graph: Graph, data: ReadonlySet<Value>): Segment[] {
  const nodes = graph.nodes.filter(node => node.outputs.some(output => output && data.has(output)))
  const lastUse = new Map<Value, number>()
  nodes.forEach((node, i) => {
    for (const input of node.inputs) if (input && data.has(input)) lastUse.set(input, i)
  })
  for (const output of graph.outputs) lastUse.set(output, nodes.length)
  const live = new Set<Value>(graph.inputs)
  const result: Segment[] = []
  let input = graph.inputs[0]!
  let first = 0
  nodes.forEach((node, i) => {
    for (const output of node.outputs) if (output && (lastUse.get(output) ?? -1) > i) live.add(output)
    for (const used of node.inputs) if (used && lastUse.get(used) === i) live.delete(used)
    if (live.size !== 1) return
    const [output] = live
    result.push({ input, output: output!, nodes: nodes.slice(first, i + 1) })
    input = output!
    first = i + 1
  })
  return result
}

/** Attention multiplies activations with activations; nothing else in a decoder does so by MatMul. */
const hasAttention = (segment: Segment, data: ReadonlySet<Value>): boolean =>
  segment.nodes.some(node => node.kind === 'MatMul' && node.inputs.every(input => input && data.has(input)))

/** True for a segment that ends by adding to the value it began with. */
function isResidual(segment: Segment): boolean {
  const last = segment.output.producer
  return last?.kind === 'Add' && last.inputs.includes(segment.input)
}

/** Segments of each block: from one attention to the next; the last block is as long as the one before it. */
function groupSegments(all: readonly Segment[], starts: readonly number[]): Segment[][] {
  const groups = starts.slice(0, -1).map((start, i) => all.slice(start, starts[i + 1]))
  const start = starts.at(-1)!
  let end = start + 1
  if (groups.length > 0) end = start + groups.at(-1)!.length
  else while (end < all.length && isResidual(all[end]!)) end += 1
  return [...groups, all.slice(start, end)]
}

/**
 * The decoder blocks of a working copy (graph/passes/normalize.ts), in order.
 * @throws E_NO_BLOCKS saying which check failed, and on which node.
 */
export function findBlocks(graph: Graph): Block[] {
  const data = dependents(graph.nodes, graph.inputs)
  const all = segments(graph, data)
  const starts = all.flatMap((segment, i) => (hasAttention(segment, data) ? [i] : []))
  if (starts.length === 0) {
    throw new QuantError(
      'E_NO_BLOCKS',
      'no decoder blocks found: no product of two activations (attention) on the way to the logits',
      'omniquant quantizes decoder language models. `omniquant inspect` shows what the file holds.',
    )
  }
  const blocks = groupSegments(all, starts).map((group, index): Block => {
    const nodes = group.flatMap(segment => segment.nodes)
    const { linears, skipped } = findLinears(nodes, data)
    return { index, input: group[0]!.input, output: group.at(-1)!.output, nodes, linears, skipped }
  })
  const empty = blocks.find(block => block.linears.length === 0)
  if (empty) {
    throw new QuantError(
      'E_NO_BLOCKS',
      `block ${empty.index} (from "${empty.input.name}" to "${empty.output.name}") has no weights that can be quantized` +
        (empty.skipped[0] ? `: ${empty.skipped[0].reason} (${printNode(empty.skipped[0].at)})` : ''),
      'Only MatMul and Gemm with a constant 2-D weight are quantized.',
    )
  }
  return blocks
}
