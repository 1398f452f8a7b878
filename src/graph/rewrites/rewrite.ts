/** @file The type of rewrites, and how one declines. Knows no op. */

import { QuantError } from '../../errors.ts'
import type { Node, Value } from '../ir.ts'
import { staticShape } from '../shape.ts'
import { elementCount } from '../tensor.ts'
import type { RewriteBuilder } from './rewrite-builder.ts'

/**
 * Writes primitives for `node` into g. `inputs` are the node's inputs as values of g, of static shapes; undefined = absent.
 * Returns one entry per output; undefined for outputs that a working copy never needs (present key and value, mean, inv_std).
 * @throws E_UNSUPPORTED naming node and attribute when the rule does not cover them.
 */
export type Rewrite = (g: RewriteBuilder, node: Node, inputs: readonly (Value | undefined)[]) => (Value | undefined)[]

/** Error of a rule that has no formula for an attribute or input; `what` names it. */
export function declined(node: Node, what: string): QuantError {
  return new QuantError(
    'E_UNSUPPORTED',
    `${node.kind} "${node.name}": ${what} is not supported`,
    'Export the model without it, or with a recent version of its exporter.',
  )
}

/** An input that the op needs. @throws E_UNSUPPORTED when it is absent. */
export function required(node: Node, inputs: readonly (Value | undefined)[], index: number, name: string): Value {
  const value = inputs[index]
  if (value === undefined) throw declined(node, `a node without its input ${index} (${name})`)
  return value
}

/** Checks that a cache input is absent or empty, because working copies have no past. @throws E_UNSUPPORTED when it holds tokens. */
export function requireEmptyPast(node: Node, past: Value | undefined): void {
  if (past && elementCount(staticShape(past)) > 0)
    throw declined(node, `a past of shape [${staticShape(past).join(', ')}] ("${past.name}")`)
}
