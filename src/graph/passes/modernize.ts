/**
 * @file Pass: writes nodes of old files as the opset of our programs does: attributes that became inputs, defaults that changed.
 * Knows the changelog of ONNX, and no fused op.
 */

import type { Builder } from '../builder.ts'
import { type Attribute, Node, Value } from '../ir.ts'
import { rowsFor } from '../ops.ts'
import { declined, required } from '../rewrites/rewrite.ts'
import { constantNumbers, normalizeAxis, type Shape, staticShape } from '../shape.ts'
import type { Inputs, NodePass } from './pass.ts'

/** The node as we write it; undefined when we write it the same. `opset` is that of the file. */
export type Modernization = (g: Builder, node: Node, inputs: Inputs, opset: number) => Node | undefined

export interface Changes {
  readonly opType?: string
  readonly inputs: Inputs
  /** Attributes to set; undefined removes one. */
  readonly attributes?: Readonly<Record<string, Attribute | undefined>>
  /** Number of outputs to keep; all when absent. */
  readonly outputs?: number
}

const int = (value: number): Attribute => ({ type: 'int', value })

/** A node like `node`, in no graph, with outputs of its own of the same names. */
export function changed(node: Node, { opType = node.opType, inputs, attributes = {}, outputs }: Changes): Node {
  const all = new Map(node.attributes)
  for (const [name, attribute] of Object.entries(attributes)) {
    if (attribute) all.set(name, attribute)
    else all.delete(name)
  }
  const values = node.outputs.slice(0, outputs).map(output => output && new Value(output.name))
  const result = new Node(opType, [...inputs], values, all, node.domain, node.name)
  result.origin = node
  return result
}

/** Axes: an attribute until ReduceSum 13, Squeeze 13, Unsqueeze 13 and the other reductions of 18, then input 1. */
export const axesToInput: Modernization = (g, node, inputs) => {
  const axes = node.ints('axes')
  if (!axes) return undefined
  // No axes at all means all of them, which an absent input says too.
  return changed(node, {
    inputs: axes.length === 0 ? [inputs[0]] : [inputs[0], g.ints(axes)],
    attributes: { axes: undefined },
  })
}

/** Split: sizes were an attribute until 13; equal parts must be counted by `num_outputs` since 18. */
export const split: Modernization = (g, node, inputs) => {
  const sizes = node.ints('split')
  if (sizes) return changed(node, { inputs: [inputs[0], g.ints(sizes)], attributes: { split: undefined } })
  if (inputs[1] || node.attributes.has('num_outputs')) return undefined
  return changed(node, { inputs, attributes: { num_outputs: int(node.outputs.length) } })
}

/** Slice: bounds were attributes until 10. */
const slice: Modernization = (g, node, inputs) => {
  const [starts, ends, axes] = [node.ints('starts'), node.ints('ends'), node.ints('axes')]
  if (!starts || !ends) return undefined
  return changed(node, {
    inputs: [inputs[0], g.ints(starts), g.ints(ends), ...(axes ? [g.ints(axes)] : [])],
    attributes: { starts: undefined, ends: undefined, axes: undefined },
  })
}

/** Clip: bounds were attributes until 11. */
const clip: Modernization = (g, node, inputs) => {
  const x = required(node, inputs, 0, 'input')
  const bound = (name: string) => (node.attributes.has(name) ? g.scalar(node.float(name, 0), x.dtype) : undefined)
  const [min, max] = [bound('min'), bound('max')]
  if (!min && !max) return undefined
  return changed(node, { inputs: [x, min, max], attributes: { min: undefined, max: undefined } })
}

/** Pad: widths and the value were attributes until 11. */
const pad: Modernization = (g, node, inputs) => {
  const pads = node.ints('pads')
  if (!pads) return undefined
  const x = required(node, inputs, 0, 'data')
  return changed(node, {
    inputs: [x, g.ints(pads), g.scalar(node.float('value', 0), x.dtype)],
    attributes: { pads: undefined, value: undefined },
  })
}

/** TopK: k was an attribute until 10. */
const topK: Modernization = (g, node, inputs) =>
  node.attributes.has('k')
    ? changed(node, { inputs: [inputs[0], g.ints([node.int('k', 1)])], attributes: { k: undefined } })
    : undefined

/**
 * Softmax, LogSoftmax: until 13 the default axis was 1, and all axes from `axis` on were normalized together, as one row
 * of a matrix. Where they are more than one, the rows are made by a Reshape and undone by the node returned.
 */
const softmax: Modernization = (g, node, inputs, opset) => {
  if (opset >= 13) return undefined
  const x = required(node, inputs, 0, 'input')
  const shape = staticShape(x)
  const axis = normalizeAxis(node.int('axis', 1), shape.length)
  if (shape.slice(axis + 1).every(dim => dim === 1)) return changed(node, { inputs, attributes: { axis: int(axis) } })
  const count = (dims: Shape) => dims.reduce((a, b) => a * b, 1)
  const rows = g.op(node.opType, [g.reshape(x, [count(shape.slice(0, axis)), count(shape.slice(axis))])], { axis: -1 })
  return changed(node, { opType: 'Reshape', inputs: [rows, g.ints(shape)], attributes: { axis: undefined } })
}

/** Dropout does nothing in a model that is only run; nobody reads its mask. */
export const dropout: Modernization = (_, node, inputs) => {
  const training = constantNumbers(inputs[2])?.[0] ?? 0
  if (training !== 0) throw declined(node, 'training_mode = true')
  const removed = Object.fromEntries([...node.attributes.keys()].map(name => [name, undefined]))
  return changed(node, { opType: 'Identity', inputs: [inputs[0]], outputs: 1, attributes: removed })
}

/** Scatter was renamed in 11. */
const scatter: Modernization = (_, node, inputs) => changed(node, { opType: 'ScatterElements', inputs })

/** Cast: opset 24 has an attribute for 8-bit scales, which are none of ours. */
const cast: Modernization = (_, node, inputs) =>
  node.attributes.has('round_mode') ? changed(node, { inputs, attributes: { round_mode: undefined } }) : undefined

const MODERNIZATIONS: Readonly<Record<string, Modernization>> = {
  ...rowsFor(['reduction'], axesToInput),
  Squeeze: axesToInput,
  Unsqueeze: axesToInput,
  Split: split,
  Slice: slice,
  Clip: clip,
  Pad: pad,
  TopK: topK,
  Softmax: softmax,
  LogSoftmax: softmax,
  Dropout: dropout,
  Scatter: scatter,
  Cast: cast,
  CastLike: cast,
}

/**
 * Gives the node as opset 21 writes it: a new detached node whose inputs are values of g (`inputs`, and constants or nodes made here).
 * `opset` is the file's version of ai.onnx, 7 to 26. @throws E_UNSUPPORTED for Dropout in training mode.
 */
export const MODERNIZE: NodePass = {
  name: 'modernize',
  // Rewrites know the old and the new form of their ops.
  after: ['rewrite fused ops'],
  apply: ({ g, opset }, node, inputs) => {
    const modern = MODERNIZATIONS[node.kind]?.(g, node, inputs, opset)
    return modern && { node: modern, inputs: modern.inputs }
  },
}
