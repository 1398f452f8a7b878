/** @file The nodes after the last block: the last norm and lm_head. */

import { dependents } from '../../graph/dependencies.ts'
import type { Graph } from '../../graph/ir.ts'
import type { Block } from './blocks.ts'
import { findLinears } from './linears.ts'

/** The nodes from the output of the last block to the logits, as a block with lm_head as its linear. */
export function findTail(graph: Graph, blocks: readonly Block[]): Block {
  const { output: input } = blocks.at(-1)!
  const data = dependents(graph.nodes, [input])
  const nodes = graph.nodes.filter(node => node.outputs.some(output => output && output !== input && data.has(output)))
  return { index: blocks.length, input, output: graph.outputs[0]!, nodes, ...findLinears(nodes, data) }
}
