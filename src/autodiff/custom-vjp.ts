/** @file Rules of single nodes instead of ops: how straight-through estimators come in. Here, so that graph/ stays ignorant. */

import type { Node } from '../graph/ir.ts'
import type { VjpRule } from './vjp.ts'

const RULES = new WeakMap<Node, VjpRule>()

/** Gives `node` a rule of its own, which goes before the one of its op. Copies of the node do not inherit it. */
export function customVjp(node: Node, rule: VjpRule): void {
  RULES.set(node, rule)
}

/** The node's own rule, if it has one. */
export function customVjpOf(node: Node): VjpRule | undefined {
  return RULES.get(node)
}
