/** @file Writes graphs: `g.matMul(x, w)` appends a node and returns its output. The target decides names and types. */

import { type DType, dtypeNumber } from './dtype.ts'
import { type Attribute, Graph, Node, Value } from './ir.ts'
import { Names } from './names.ts'
import { type Shape, staticShape } from './shape.ts'
import { type OpOptions, programTarget, type Target } from './target.ts'
import { int64Tensor, type Tensor, tensorOf } from './tensor.ts'

/** Attributes as written in code: a number is INT, an array INTS; FLOAT needs `float(1)`. */
export type AttributeInput = number | readonly number[] | string | Graph | Tensor | Attribute

/** A FLOAT attribute; plain numbers are INT. */
export function float(value: number): Attribute {
  return { type: 'float', value }
}

function attributeOf(input: AttributeInput): Attribute {
  if (typeof input === 'number') return { type: 'int', value: input }
  if (typeof input === 'string') return { type: 'string', value: input }
  if (input instanceof Graph) return { type: 'graph', value: input }
  if (Array.isArray(input)) return { type: 'ints', value: input }
  if ('dims' in input) return { type: 'tensor', value: input as Tensor }
  return input as Attribute
}

/** Most outputs of a Split: each takes a storage buffer of a WebGPU device, and the least device has 8, one of them for the input. */
const MAX_SPLIT = 7

/** ReduceMax and ReduceMin take their axes as an input from this opset on. */
const AXES_AS_INPUT = 18

/**
 * Appends nodes to a graph. The default target is a program: shapes are static, and every method returns a value of known type and
 * dims. In the user's graph (graph-writer.ts) shapes are unknown, and types may be.
 */
export class Builder {
  readonly graph: Graph
  readonly names: Names
  private readonly target: Target

  constructor(graph: Graph = new Graph(), names: Names = new Names(), target: Target = programTarget(graph, names)) {
    this.graph = graph
    this.names = names
    this.target = target
  }

  /** Declares a graph input. */
  input(name: string, dtype: DType, shape: Shape): Value {
    const value = new Value(this.names.fresh(name), dtype, shape)
    this.graph.inputs.push(value)
    return value
  }

  /** Declares a graph output; `name` renames the value. */
  output(value: Value, name?: string): void {
    if (name !== undefined) value.name = this.names.fresh(name)
    this.graph.outputs.push(value)
  }

  /** Adds a constant under a name of its own. */
  initializer(name: string, tensor: Tensor): Value {
    return this.addConstant(this.target.constantName(name), tensor)
  }

  private addConstant(name: string, tensor: Tensor): Value {
    const value = new Value(name, tensor.dtype, tensor.dims, tensor)
    this.graph.initializers.push(value)
    return value
  }

  /** A scalar constant; one for each number and type. */
  scalar(value: number, dtype: DType = 'float32'): Value {
    return this.shared(`constant_${dtype}_${value}`, 'c', () => {
      if (dtype === 'float32') return tensorOf(dtype, [], Float32Array.of(value))
      if (dtype === 'float64') return tensorOf(dtype, [], Float64Array.of(value))
      if (dtype === 'bool') return tensorOf(dtype, [], Uint8Array.of(value))
      if (dtype === 'uint8') return tensorOf(dtype, [], Uint8Array.of(value))
      if (dtype === 'int32') return tensorOf(dtype, [], Int32Array.of(value))
      return int64Tensor([], [value])
    })
  }

  /** A 1-D int64 constant for axes, shapes, slice bounds; one for each list of numbers. */
  ints(values: readonly number[]): Value {
    return this.shared(`constant_ints_${values.join('_')}`, 'ints', () => int64Tensor([values.length], values))
  }

  /** Constant of `key`, made once in the graph. Programs call it `short`, the user's graph `key`. */
  shared(key: string, short: string, make: () => Tensor): Value {
    return this.once(key, () => this.addConstant(this.target.sharedName(key, short), make()))
  }

  /** Result of `make` for `key`, made once in the graph. */
  once(key: string, make: (key: string) => Value): Value {
    return this.target.once(key, make)
  }

  /** Appends a node with `count` outputs. */
  ops(
    opType: string,
    inputs: readonly (Value | undefined)[],
    count: number,
    attributes: Record<string, AttributeInput> = {},
    options: OpOptions = {},
  ): Value[] {
    const outputs = Array.from({ length: count }, () => new Value(this.target.valueName(opType, options)))
    const entries = Object.entries(attributes).map(([name, input]) => [name, attributeOf(input)] as const)
    const nodeName = this.target.nodeName(opType, options, outputs[0]?.name ?? '')
    this.target.append(
      new Node(opType, [...inputs], outputs, new Map(entries), options.domain, nodeName),
      options.dtype,
    )
    return outputs
  }

  /** Appends a node with one output. */
  op(
    opType: string,
    inputs: readonly (Value | undefined)[],
    attributes: Record<string, AttributeInput> = {},
    options: OpOptions = {},
  ): Value {
    return this.ops(opType, inputs, 1, attributes, options)[0]!
  }

  add(a: Value, b: Value): Value {
    return this.op('Add', [a, b])
  }
  sub(a: Value, b: Value): Value {
    return this.op('Sub', [a, b])
  }
  mul(a: Value, b: Value): Value {
    return this.op('Mul', [a, b])
  }
  div(a: Value, b: Value): Value {
    return this.op('Div', [a, b])
  }
  neg(x: Value): Value {
    return this.op('Neg', [x])
  }
  /** x * factor, with the factor in x's own type. */
  scale(x: Value, factor: number): Value {
    return this.mul(x, this.scalar(factor, x.dtype))
  }
  /** x + offset, with the offset in x's own type. */
  shift(x: Value, offset: number): Value {
    return this.add(x, this.scalar(offset, x.dtype))
  }
  matMul(a: Value, b: Value): Value {
    return this.op('MatMul', [a, b])
  }
  transpose(x: Value, perm: readonly number[]): Value {
    return this.op('Transpose', [x], { perm })
  }
  /** Swaps the last two axes. */
  transposeLast(x: Value): Value {
    const rank = staticShape(x).length
    return this.transpose(x, [...Array(rank - 2).keys(), rank - 1, rank - 2])
  }
  reshape(x: Value, shape: Shape): Value {
    return this.op('Reshape', [x, this.ints(shape)], { allowzero: shape.includes(0) ? 1 : 0 })
  }
  cast(x: Value, to: DType): Value {
    return this.op('Cast', [x], { to: dtypeNumber(to) }, { role: to, dtype: to })
  }
  /** x as `dtype`: x itself when it has that type. */
  typed(x: Value, dtype: DType): Value {
    return x.dtype === dtype ? x : this.cast(x, dtype)
  }
  reduceSum(x: Value, axes: readonly number[], keepdims = true): Value {
    return this.op('ReduceSum', [x, this.ints(axes)], { keepdims: keepdims ? 1 : 0 })
  }
  reduceMean(x: Value, axes: readonly number[], keepdims = true): Value {
    return this.op('ReduceMean', [x, this.ints(axes)], { keepdims: keepdims ? 1 : 0 })
  }
  /** ReduceMax or ReduceMin over the last axis, which stays as 1. */
  reduceLast(opType: 'ReduceMax' | 'ReduceMin', x: Value, options: OpOptions = {}): Value {
    return this.target.opset >= AXES_AS_INPUT
      ? this.op(opType, [x, this.ints([-1])], { keepdims: 1 }, options)
      : this.op(opType, [x], { axes: [-1], keepdims: 1 }, options)
  }
  slice(x: Value, axis: number, start: number, end: number, step = 1): Value {
    return this.op('Slice', [x, this.ints([start]), this.ints([end]), this.ints([axis]), this.ints([step])])
  }
  /** x in pieces of these sizes along an axis. Many pieces are cut in several steps (MAX_SPLIT). */
  split(x: Value, sizes: readonly number[], axis: number, options: OpOptions = {}): Value[] {
    if (sizes.length <= MAX_SPLIT) return this.ops('Split', [x, this.ints(sizes)], sizes.length, { axis }, options)
    const perPart = Math.ceil(sizes.length / Math.min(MAX_SPLIT, Math.ceil(sizes.length / MAX_SPLIT)))
    const parts = Array.from({ length: Math.ceil(sizes.length / perPart) }, (_, i) =>
      sizes.slice(i * perPart, (i + 1) * perPart),
    )
    const totals = parts.map(part => part.reduce((sum, size) => sum + size, 0))
    return this.split(x, totals, axis).flatMap((part, i) => this.split(part, parts[i]!, axis, options))
  }
  concat(values: readonly Value[], axis: number): Value {
    return this.op('Concat', values, { axis })
  }
  /** Copies a node of another graph with other inputs, to write a block into a program. */
  copy(node: Node, inputs: readonly (Value | undefined)[]): Value[] {
    const outputs = node.outputs.map(output =>
      output ? new Value(this.names.fresh(output.name), output.dtype, output.shape) : undefined,
    )
    const copied = new Node(node.opType, [...inputs], outputs, new Map(node.attributes), node.domain, outputs[0]?.name)
    copied.origin = node.origin ?? node
    this.target.append(copied, undefined)
    return outputs as Value[]
  }
}
