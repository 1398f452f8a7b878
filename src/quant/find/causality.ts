/** @file Refuses attention that looks ahead, as an encoder's does. Reads the constants of one block, runs nothing. */

import { QuantError } from '../../errors.ts'
import { dependents } from '../../graph/dependencies.ts'
import type { Node, Value } from '../../graph/ir.ts'
import { isElementwise, keepsElements } from '../../graph/ops.ts'
import { printNode } from '../../graph/print.ts'
import { staticShape } from '../../graph/shape.ts'
import { readBytes, type Tensor } from '../../graph/tensor.ts'
import { readFloats } from '../../kernels/float16.ts'
import type { Block } from './blocks.ts'

/** Largest number that closes a score it is added to. Exporters write -10000, -65504, the least float or minus infinity. */
const CLOSED = -1e3

/** The op may stand between the scores and their softmax: it keeps each score in its row. */
const passes = (kind: string): boolean => isElementwise(kind) || keepsElements(kind) || kind === 'Concat'

/** Mask of the last token for the first one: element (0, last) of the last two axes, both `tokens` long. */
function corner(tensor: Tensor, tokens: number): number | undefined {
  const { dims } = tensor
  if (dims.at(-1) !== tokens || dims.at(-2) !== tokens) return undefined
  return Number((tensor.dtype === 'bool' ? readBytes(tensor) : readFloats(tensor))[tokens - 1])
}

/** True where `node` closes the score of the last token for the first by a constant; `scores` are the values it may change. */
function closes(node: Node, scores: ReadonlySet<Value>, tokens: number): boolean {
  const constant = (value: Value | undefined) => (value?.tensor ? corner(value.tensor, tokens) : undefined)
  const lowest = ({ tensor }: Value) => tensor !== undefined && Number(readFloats(tensor)[0]) <= CLOSED
  if (node.kind === 'Add') return node.inputs.some(input => (constant(input) ?? 0) <= CLOSED)
  if (node.kind !== 'Where') return false
  const [condition, yes, no] = node.inputs as [Value, Value, Value]
  const flag = constant(condition)
  if (flag === undefined) return false
  const chosen = flag ? yes : no
  return !scores.has(chosen) && lowest(chosen)
}

/**
 * Refuses a model whose attention lets the first of several tokens see the last one. Where the scores' way to a softmax is not
 * understood nothing is refused.
 * @throws E_UNSUPPORTED naming the product that makes the scores.
 */
export function requireCausal({ nodes, input }: Block): void {
  const data = dependents(nodes, [input])
  const product = nodes.find(node => node.kind === 'MatMul' && node.inputs.every(value => value && data.has(value)))
  const tokens = product && staticShape(product.outputs[0]!).at(-1)
  if (!product || tokens === undefined || tokens < 2 || staticShape(input).at(-2) !== tokens) return
  const scores = new Set<Value>([product.outputs[0]!])
  for (const node of nodes.slice(nodes.indexOf(product) + 1)) {
    if (!node.inputs.some(value => value && scores.has(value))) continue
    if (closes(node, scores, tokens)) return
    if (node.kind === 'Softmax') {
      const where = product.origin?.name ? `${product.origin.kind} "${product.origin.name}"` : printNode(product)
      throw new QuantError(
        'E_UNSUPPORTED',
        `the attention of ${where} shows every token the ones after it: this is an encoder, not a decoder`,
        'omniquant quantizes decoder language models.',
      )
    }
    if (!passes(node.kind)) return
    scores.add(node.outputs[0]!)
  }
}
