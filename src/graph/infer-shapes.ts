/**
 * @file Static shape and type inference: one row per op kind, assembled from shape-rules/. Written for working copies and for programs
 * we build: every dimension is a number, axes are inputs (the opset of our programs), and what a shape depends on is constant.
 */

import { QuantError } from '../errors.ts'
import type { Node } from './ir.ts'
import { MAX_ELEMENTS, MAX_RANK } from './limits.ts'
import type { Shape } from './shape.ts'
import { elementwiseShapes } from './shape-rules/elementwise.ts'
import { indexShapes } from './shape-rules/indices.ts'
import { movementShapes } from './shape-rules/movement.ts'
import { productShapes } from './shape-rules/products.ts'
import type { ShapeTable } from './shape-rules/shape-rule.ts'

const RULES: ShapeTable = {
  ...elementwiseShapes,
  ...movementShapes,
  ...indexShapes,
  ...productShapes,
}

/** Op kinds (`Node.kind`) whose output shape can be inferred. */
export const inferableKinds: ReadonlySet<string> = new Set(Object.keys(RULES))

/** @throws E_TOO_LARGE naming the node, for dims that no tensor has. */
function checkSize(node: Node, shape: Shape): void {
  // Zeros are left out: kernels multiply the others.
  const elements = shape.reduce((product, dim) => product * Math.max(dim, 1), 1)
  if (shape.every(dim => Number.isSafeInteger(dim) && dim >= 0) && elements <= MAX_ELEMENTS && shape.length <= MAX_RANK)
    return
  throw new QuantError(
    'E_TOO_LARGE',
    `${node.kind} "${node.name}" makes a tensor of impossible dims [${shape.join(', ')}]`,
    'The file is damaged, or its shapes do not fit these inputs: export it again.',
  )
}

/**
 * Sets dtype and shape of every output of `node` from its inputs.
 * @throws E_UNSUPPORTED when there is no row for the op, or a shape depends on data; E_TOO_LARGE for absurd shapes.
 */
export function inferNode(node: Node): void {
  const rule = Object.hasOwn(RULES, node.kind) ? RULES[node.kind] : undefined
  if (rule === undefined) {
    throw new QuantError(
      'E_UNSUPPORTED',
      `no shape rule for ${node.kind} (node "${(node.origin ?? node).name}")`,
      'omniquant reads decoder language models. For one that has this operator: add a row in src/graph/shape-rules.',
    )
  }
  const inferred = rule(node)
  for (const { shape } of inferred) checkSize(node, shape)
  node.outputs.forEach((output, i) => {
    const result = inferred[i]
    if (output && result) {
      output.dtype = result.dtype
      output.shape = result.shape
    }
  })
}
