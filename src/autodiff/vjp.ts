/** @file The type of gradient rules. Knows graphs, no particular op. */

import { QuantError } from '../errors.ts'
import type { Builder } from '../graph/builder.ts'
import type { Node, Value } from '../graph/ir.ts'

/**
 * The vector-Jacobian product of one op: from the gradients of its outputs to those of its inputs, as nodes added by `g`.
 *
 * `dy` has one entry per output, `undefined` where no gradient flows; at least one is there.
 * `needs` has one entry per input: compute no more than it asks. The result has one entry per input; `undefined` means zero.
 * A result may have any shape that broadcasting the input could have given: the walk sums it back (rules for elementwise
 * ops return gradients in their output's shape). Rules never see that a value is used more than once.
 */
export type VjpRule = (
  g: Builder,
  node: Node,
  dy: readonly (Value | undefined)[],
  needs: readonly boolean[],
) => (Value | undefined)[]

/** The answer of ops that may be differentiated and contribute nothing: their derivative is zero where it exists. */
export const NO_GRADIENT: unique symbol = Symbol('no gradient')

/** Entry of the table for an op. */
export type VjpEntry = VjpRule | typeof NO_GRADIENT

export type VjpTable = Readonly<Record<string, VjpEntry>>

/** A rule for ops of which only the first output carries a gradient. @throws E_UNSUPPORTED when another one does. */
export function single(
  rule: (g: Builder, node: Node, dy: Value, needs: readonly boolean[]) => (Value | undefined)[],
): VjpRule {
  return (g, node, dy, needs) => {
    const other = dy.findIndex((gradient, i) => i > 0 && gradient !== undefined)
    if (other > 0) {
      throw new QuantError(
        'E_UNSUPPORTED',
        `no gradient rule for output ${other} of ${node.kind} (node "${node.name}")`,
        `Extend the row of ${node.kind} in src/autodiff/rules.`,
      )
    }
    return dy[0] ? rule(g, node, dy[0], needs) : []
  }
}

/** A rule for ops of one input and one output: `y = f(x)`, `dx` from x, y and dy. */
export function unary(dx: (g: Builder, x: Value, dy: Value, y: Value, node: Node) => Value): VjpRule {
  return single((g, node, dy) => [dx(g, node.inputs[0]!, dy, node.outputs[0]!, node)])
}
