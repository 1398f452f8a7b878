/** @file A rule of shape inference, and what most rules ask of a node. */

import { internalError, QuantError } from '../../errors.ts'
import type { DType } from '../dtype.ts'
import type { Node } from '../ir.ts'
import { inputShape, requireInput } from '../node-arguments.ts'
import type { Shape } from '../shape.ts'

/** Type and shape of one output. */
export interface Inferred {
  readonly dtype: DType
  readonly shape: Shape
}

/** Types and shapes of a node's outputs, from its inputs. @throws E_UNSUPPORTED when a shape depends on data; E_INTERNAL */
export type ShapeRule = (node: Node) => Inferred[]

/** By op kind (`Node.kind`). */
export type ShapeTable = Readonly<Record<string, ShapeRule>>

/** Element type of an input. @throws E_UNSUPPORTED when it is not known. */
export function dtypeOf(node: Node, index: number): DType {
  const { dtype, name } = requireInput(node, index)
  if (dtype === undefined) throw new QuantError('E_UNSUPPORTED', `the element type of "${name}" is not known`)
  return dtype
}

/** The one type that these inputs have. @throws E_INTERNAL when there are several. */
export function commonType(node: Node, inputs: readonly number[]): DType {
  const types = new Set(inputs.map(i => dtypeOf(node, i)))
  if (types.size !== 1) throw internalError(`inputs are of types ${[...types].join(' and ')}`)
  return [...types][0]!
}

export const sameAsInput: ShapeRule = node => [{ dtype: dtypeOf(node, 0), shape: inputShape(node, 0) }]
