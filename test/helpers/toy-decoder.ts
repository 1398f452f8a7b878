/** @file A decoder of a few nodes with random weights, as a user's graph, for forms that no exporter's file at hand has. */

import { type DType, dtypeNumber } from '../../src/graph/dtype.ts'
import { type Attribute, Graph, type Model, newModel, Node, Value } from '../../src/graph/ir.ts'
import { type Tensor, tensorOf } from '../../src/graph/tensor.ts'
import { toFloat16Bits } from '../../src/kernels/float16.ts'
import { noise } from '../kernels/weights.ts'

export const TOY: { readonly hidden: number; readonly heads: number; readonly ffn: number; readonly vocab: number } = {
  hidden: 64,
  heads: 4,
  ffn: 128,
  vocab: 96,
}

export type ToyAttributes = Readonly<Record<string, number | string | Attribute>>

/** A user's graph under construction. Inner values have no type, as in optimum's files. */
export class ToyGraph {
  readonly model: Model
  private seed = 1

  constructor(opset: number) {
    this.model = newModel(new Graph('toy'), opset)
  }

  get graph(): Graph {
    return this.model.graph
  }

  /** A node `/layers.0/name/Op` with one output. */
  op(scope: string, kind: string, inputs: (Value | undefined)[], attributes: ToyAttributes = {}): Value {
    return this.ops(scope, kind, inputs, 1, attributes)[0]!
  }

  ops(
    scope: string,
    kind: string,
    inputs: (Value | undefined)[],
    count: number,
    attributes: ToyAttributes = {},
  ): Value[] {
    const dot = kind.lastIndexOf('.')
    const opType = kind.slice(dot + 1)
    const name = `${scope}/${opType}`
    const taken = this.graph.nodes.filter(node => node.name.replace(/_\d+$/, '') === name).length
    const unique = taken === 0 ? name : `${name}_${taken}`
    const outputs = Array.from({ length: count }, (_, i) => new Value(`${unique}_output_${i}`))
    const entries = Object.entries(attributes).map(([key, value]): [string, Attribute] => {
      if (typeof value === 'object') return [key, value]
      return [key, typeof value === 'number' ? { type: 'int', value } : { type: 'string', value }]
    })
    this.graph.nodes.push(new Node(opType, inputs, outputs, new Map(entries), kind.slice(0, Math.max(0, dot)), unique))
    return outputs
  }

  constant(name: string, tensor: Tensor): Value {
    const value = new Value(name, tensor.dtype, tensor.dims, tensor)
    this.graph.initializers.push(value)
    return value
  }

  /** Random numbers around `mean`: the same for the same place in the order of calls. */
  weight(
    name: string,
    dims: readonly number[],
    { scale = 0.15, mean = 0, dtype = 'float32' }: { scale?: number; mean?: number; dtype?: DType } = {},
  ): Value {
    const count = dims.reduce((a, b) => a * b, 1)
    const numbers = noise(count, this.seed++).map(x => mean + scale * x)
    const half = dtype === 'float16'
    return this.constant(name, half ? tensorOf(dtype, dims, toFloat16Bits(numbers)) : tensorOf(dtype, dims, numbers))
  }

  gain(name: string): Value {
    return this.weight(name, [TOY.hidden], { mean: 1 })
  }

  cast(scope: string, x: Value, to: DType): Value {
    return this.op(scope, 'Cast', [x], { to: dtypeNumber(to) })
  }

  /** Product of x, in the weight's own type, with a stored weight. */
  linear(scope: string, x: Value, rows: number, columns: number, dtype: DType = 'float32'): Value {
    return this.op(scope, 'MatMul', [x, this.weight(`${scope}.weight`, [rows, columns], { dtype })])
  }

  norm(scope: string, x: Value, gain: Value = this.gain(`${scope}.weight`)): Value {
    return this.op(scope, 'SimplifiedLayerNormalization', [x, gain], { axis: -1 })
  }

  /** Causal attention by com.microsoft MultiHeadAttention, with a linear for each of q, k and v, and one for its result. */
  attention(scope: string, x: Value): Value {
    const { hidden, heads } = TOY
    const parts = ['q_proj', 'k_proj', 'v_proj'].map(part => this.linear(`${scope}/${part}`, x, hidden, hidden))
    const mixed = this.op(scope, 'com.microsoft.MultiHeadAttention', parts, { num_heads: heads, unidirectional: 1 })
    return this.linear(`${scope}/o_proj`, mixed, hidden, hidden)
  }

  mlp(scope: string, x: Value): Value {
    const { hidden, ffn } = TOY
    const up = this.op(`${scope}/act`, 'Relu', [this.linear(`${scope}/up_proj`, x, hidden, ffn)])
    return this.linear(`${scope}/down_proj`, up, ffn, hidden)
  }
}

export interface ToyOptions {
  readonly opset?: number
  readonly layers?: number
  /** Layer `/layers.i`: hidden states -> hidden states. */
  readonly layer?: (toy: ToyGraph, x: Value, scope: string) => Value
}

/** Norm, attention, residual, norm, MLP, residual. */
export function toyLayer(toy: ToyGraph, x: Value, scope: string): Value {
  const attended = toy.attention(`${scope}/attn`, toy.norm(`${scope}/input_norm`, x))
  const middle = toy.op(scope, 'Add', [x, attended])
  return toy.op(scope, 'Add', [middle, toy.mlp(`${scope}/mlp`, toy.norm(`${scope}/post_norm`, middle))])
}

/** input_ids [batch, sequence] -> logits [batch, sequence, vocab], float32. */
export function toyDecoder({ opset = 17, layers = 2, layer = toyLayer }: ToyOptions = {}): ToyGraph {
  const toy = new ToyGraph(opset)
  const ids = new Value('input_ids', 'int64', ['batch', 'sequence'])
  toy.graph.inputs.push(ids)
  let x = toy.op('/embed', 'Gather', [toy.weight('embed.weight', [TOY.vocab, TOY.hidden], { scale: 1 }), ids])
  for (let i = 0; i < layers; i++) x = layer(toy, x, `/layers.${i}`)
  const logits = toy.linear('/lm_head', toy.norm('/norm', x), TOY.hidden, TOY.vocab)
  logits.name = 'logits'
  logits.dtype = 'float32'
  logits.shape = ['batch', 'sequence', TOY.vocab]
  toy.graph.outputs.push(logits)
  return toy
}

/** Token ids to calibrate a toy decoder with: the text of a .jsonl file. */
export function toyTokens(samples: number, length: number): string {
  const row = (sample: number) => Array.from({ length }, (_, i) => (i * 31 + sample * 7 + 5) % TOY.vocab)
  return Array.from({ length: samples }, (_, sample) => JSON.stringify(row(sample))).join('\n')
}
