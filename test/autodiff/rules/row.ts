/** @file Rows of gradient tests: an op over inputs, or a small graph. */

import type { AttributeInput, Builder } from '../../../src/graph/builder.ts'
import type { Value } from '../../../src/graph/ir.ts'
import type { VjpInput, VjpSpec } from '../../helpers/check-vjp.ts'

export type Shape = readonly number[]
export type Extra = Partial<Pick<VjpSpec, 'dtype' | 'step' | 'tolerance' | 'opset'>>

/** An input of this shape. */
export const at = (shape: Shape, more: Omit<VjpInput, 'shape'> = {}): VjpInput => ({ shape, ...more })
export const text = (shape: Shape): string => `[${shape.join(', ')}]`
/** A scalar constant of the type of `like`. */
export const c = (g: Builder, like: Value, value: number): Value => g.scalar(value, like.dtype)

/** A row for an op whose inputs are all differentiated. */
export function row(
  kind: string,
  inputs: readonly VjpInput[],
  attributes: Record<string, AttributeInput> = {},
  extra: Extra = {},
): VjpSpec {
  const settings = Object.entries(attributes).map(
    ([name, value]) => `${name}=${typeof value === 'object' && 'value' in value ? String(value.value) : String(value)}`,
  )
  const domain = kind.startsWith('com.microsoft.') ? 'com.microsoft' : ''
  const opType = kind.slice(domain === '' ? 0 : domain.length + 1)
  return {
    kind,
    name: [
      kind,
      inputs.map(input => text(input.shape) + (input.wrt === false ? ' fixed' : '')).join(' x '),
      ...settings,
    ].join(' '),
    inputs,
    build: (g, ...values) => g.op(opType, values, attributes, { domain }),
    ...extra,
  }
}

/** A row with a graph of its own. */
export function custom(
  kind: string,
  name: string,
  inputs: readonly VjpInput[],
  build: VjpSpec['build'],
  extra: Extra = {},
): VjpSpec {
  return { kind, name: `${kind} ${name}`, inputs, build, ...extra }
}
