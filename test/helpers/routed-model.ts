/** @file A layer of a mixture of experts as exporters write it: a user's graph of symbolic shapes, made by hand. */

import { dtypeNumber } from '../../src/graph/dtype.ts'
import { type Attribute, type Dim, Graph, type Model, newModel, Node, Value } from '../../src/graph/ir.ts'
import { normalize, type WorkingCopy } from '../../src/graph/passes/normalize.ts'
import { floatTensor, int64Tensor, type Tensor } from '../../src/graph/tensor.ts'
import { runGraph } from '../../src/kernels/session.ts'
import { noise } from '../kernels/weights.ts'

export const HIDDEN = 8
export const EXPERTS = 3
export const CHOSEN = 2

type AttributeInput = number | readonly number[] | string | Attribute

/** A user's graph under construction: values have no shapes. */
export class RoutedModel {
  readonly graph: Graph = new Graph('user')
  readonly x: Value
  private seed = 1

  constructor(shape: readonly Dim[] = ['tokens', HIDDEN]) {
    this.x = new Value('x', 'float32', shape)
    this.graph.inputs.push(this.x)
  }

  constant(name: string, tensor: Tensor): Value {
    const value = new Value(`${name}_${this.graph.initializers.length}`, tensor.dtype, tensor.dims, tensor)
    this.graph.initializers.push(value)
    return value
  }

  ints(...values: number[]): Value {
    return this.constant('ints', int64Tensor([values.length], values))
  }

  scalar(value: number): Value {
    return this.constant('int', int64Tensor([], [value]))
  }

  weight(rows: number, columns: number): Value {
    return this.constant('weight', floatTensor([rows, columns], noise(rows * columns, this.seed++)))
  }

  ops(opType: string, inputs: Value[], count: number, attributes: Record<string, AttributeInput> = {}): Value[] {
    const name = `layers.0/${opType}_${this.graph.nodes.length}`
    const outputs = Array.from({ length: count }, (_, i) => new Value(`${name}_${i}`))
    const entries = Object.entries(attributes).map(([key, value]): [string, Attribute] => {
      if (typeof value === 'number') return [key, { type: 'int', value }]
      if (typeof value === 'string') return [key, { type: 'string', value }]
      return [key, Array.isArray(value) ? { type: 'ints', value } : (value as Attribute)]
    })
    this.graph.nodes.push(new Node(opType, inputs, outputs, new Map(entries), '', name))
    return outputs
  }

  op(opType: string, inputs: Value[], attributes: Record<string, AttributeInput> = {}): Value {
    return this.ops(opType, inputs, 1, attributes)[0]!
  }

  cast(x: Value, to: 'float32' | 'bool'): Value {
    return this.op('Cast', [x], { to: dtypeNumber(to) })
  }

  /** Router, softmax and choice: weights [tokens, CHOSEN] and experts' indices. */
  route(x: Value): { readonly weights: Value; readonly indices: Value } {
    const logits = this.op('MatMul', [x, this.weight(HIDDEN, EXPERTS)])
    const [weights, indices] = this.ops('TopK', [this.op('Softmax', [logits], { axis: -1 }), this.ints(CHOSEN)], 2)
    return { weights: weights!, indices: indices! }
  }

  /** One expert: down(silu(gate) * up). */
  expert(x: Value): Value {
    const gate = this.op('MatMul', [x, this.weight(HIDDEN, 128)])
    const up = this.op('MatMul', [x, this.weight(HIDDEN, 128)])
    const hidden = this.op('Mul', [this.op('Mul', [gate, this.op('Sigmoid', [gate])]), up])
    return this.op('MatMul', [hidden, this.weight(128, HIDDEN)])
  }

  model(y: Value): Model {
    y.name = 'y'
    this.graph.outputs.push(y)
    return newModel(this.graph, 18)
  }
}

/** The working copy for x of this shape. */
export const workingCopy = (model: Model, shape: readonly number[]): Promise<WorkingCopy> =>
  normalize(model, {
    fixedInputs: new Map(),
    shapes: new Map([['x', shape]]),
    outputs: ['y'],
    evaluate: constants => runGraph(constants, {}, { optimization: 'disabled' }),
  })
