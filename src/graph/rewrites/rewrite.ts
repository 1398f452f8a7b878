/** @file What a rewrite is, how one declines, and values many nodes share. Knows no op. */

import { QuantError } from '../../errors.ts'
import type { Builder } from '../builder.ts'
import type { Node, Value } from '../ir.ts'
import { staticShape } from '../shape.ts'
import { elementCount } from '../tensor.ts'

/**
 * Emits primitives for `node` into g. `inputs` are the node's inputs as values of g (static shapes; undefined = absent).
 * One entry per output; undefined for outputs a working copy never needs (present key and value, mean, inv_std).
 * @throws E_UNSUPPORTED naming node and attribute when the rule does not cover them.
 */
export type Rewrite = (g: Builder, node: Node, inputs: readonly (Value | undefined)[]) => (Value | undefined)[]

/** The error of a rule that meets something it has no formula for; `what` names the attribute or input. */
export function declined(node: Node, what: string): QuantError {
  return new QuantError(
    'E_UNSUPPORTED',
    `${node.kind} "${node.name}": ${what} is not supported`,
    'Export the model without it, or with a recent version of its exporter.',
  )
}

/** An input the op cannot do without. @throws E_UNSUPPORTED when it is absent. */
export function required(node: Node, inputs: readonly (Value | undefined)[], index: number, name: string): Value {
  const value = inputs[index]
  if (value === undefined) throw declined(node, `a node without its input ${index} (${name})`)
  return value
}

/** Working copies have no past: a cache input must be absent or empty. @throws E_UNSUPPORTED when it holds tokens. */
export function requireEmptyPast(node: Node, past: Value | undefined): void {
  if (past && elementCount(staticShape(past)) > 0)
    throw declined(node, `a past of shape [${staticShape(past).join(', ')}] ("${past.name}")`)
}

const SHARED = new WeakMap<Builder, Map<string, Value>>()

/** The value made for `key` in this graph, made at first use: masks and rotary tables that every layer reads. */
export function once(g: Builder, key: string, make: () => Value): Value {
  const values = SHARED.get(g) ?? new Map<string, Value>()
  SHARED.set(g, values)
  const known = values.get(key)
  // A rewrite that was given up took its nodes with it: what they made is not there any more.
  if (known && (known.tensor || g.graph.nodes.includes(known.producer!))) return known
  const value = make()
  values.set(key, value)
  return value
}
