/**
 * @file Values of a working copy that leave the user's graph by an output other than the logits: keys and values for the next step,
 * above all. Walks back from the outputs; knows no operator; a value it cannot look into counts as leaving.
 */

import { dependencies } from '../../graph/dependencies.ts'
import type { Graph, Node, Value } from '../../graph/ir.ts'
import type { WorkingCopy } from '../../graph/passes/normalize.ts'

/** Value of the working copy -> names of the outputs of the user's graph that are made of it. */
export type LeavingValues = ReadonlyMap<Value, ReadonlySet<string>>

/** Values that leave the user's graph, for the mappings, which must not scale all of them. */
export interface Leaving {
  readonly values: LeavingValues
  /** Outputs that may be scaled, because only this file reads them, in the next step. */
  readonly mayChange: ReadonlySet<string>
}

/** Outputs of bodies of `node` that become its output `value`; a body without copied nodes is the branch that is not taken. */
function fromBodies(node: Node, value: Value, copied: (body: Graph) => boolean): Value[] {
  const index = node.outputs.indexOf(value)
  return node.subgraphs().flatMap(body => (copied(body) ? (body.outputs[index] ?? []) : []))
}

/**
 * Values of the working copy that the outputs are made of. If a fused node makes an output, all values inside the node and all its
 * inputs count.
 * @param outputs of the user's graph.
 */
export function leavingValues({ graph, values }: WorkingCopy, outputs: readonly Value[]): LeavingValues {
  const live = new Set<Value>(graph.nodes.flatMap(node => node.outputs.flatMap(output => output ?? [])))
  const made = new Map<Node, Value[]>()
  for (const node of graph.nodes) {
    if (!node.origin) continue
    const pieces = made.get(node.origin)
    const own = node.outputs.flatMap(output => output ?? [])
    if (pieces) pieces.push(...own)
    else made.set(node.origin, own)
  }
  const isCopied = (body: Graph): boolean =>
    body.nodes.some(node => made.has(node) || node.subgraphs().some(inner => isCopied(inner)))

  const leaving = new Map<Value, Set<string>>()
  for (const output of outputs) {
    const note = (value: Value) => leaving.set(value, (leaving.get(value) ?? new Set()).add(output.name))
    const seen = new Set<Value>()
    const pending = [output]
    for (let value = pending.pop(); value; value = pending.pop()) {
      if (seen.has(value)) continue
      seen.add(value)
      const working = values.get(value)
      const { producer } = value
      if (working && live.has(working)) note(working)
      else if (producer && producer.subgraphs().length > 0) pending.push(...fromBodies(producer, value, isCopied))
      else if (producer) {
        for (const piece of made.get(producer) ?? []) note(piece)
        pending.push(...dependencies(producer))
      }
    }
  }
  return leaving
}
