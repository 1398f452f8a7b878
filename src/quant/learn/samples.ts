/** @file Programs over many samples in one run: run inputs with an entry for each sample, and a Loop over them. */

import type { Builder } from '../../graph/builder.ts'
import type { DType } from '../../graph/dtype.ts'
import { type Dim, type Graph, Node, Value } from '../../graph/ir.ts'

/**
 * Run input with an entry of `shape` for every sample: [count, ...shape]. The number of samples is the only size that is not static;
 * `count` names it.
 */
export function perSample(
  g: Builder,
  name: string,
  count: string,
  shape: readonly number[],
  dtype: DType = 'float32',
): Value {
  const value = new Value(g.names.fresh(name), dtype, [count, ...shape])
  g.graph.inputs.push(value)
  return value
}

/** Entry `index` of a run input that has one for every sample, as float32. */
export function sampleAt(g: Builder, samples: Value, index: Value, shape: readonly number[]): Value {
  const output = new Value(g.names.fresh('sample'), samples.dtype, shape)
  g.graph.nodes.push(new Node('Gather', [samples, index], [output], new Map(), '', output.name))
  return g.typed(output, 'float32')
}

/** Result of a Loop: a value carried to its end, or one stacked over its iterations. */
export interface LoopResult {
  readonly name: string
  readonly dtype?: DType
  readonly shape: readonly Dim[]
}

/**
 * Appends an ONNX Loop (opset 21) of `count` iterations to `g`, its results as outputs of the program.
 * @param state values that the first iteration starts from. @param body reads iteration int64 [], condition bool [] and the state, and
 * gives the condition, the next state, and then what is stacked. @param results of the state, then of what is stacked.
 */
export function emitLoop(
  g: Builder,
  count: Value,
  state: readonly Value[],
  body: Graph,
  results: readonly LoopResult[],
): void {
  const outputs = results.map(({ name, dtype = 'float32', shape }) => new Value(g.names.fresh(name), dtype, shape))
  g.graph.nodes.push(
    new Node('Loop', [count, undefined, ...state], outputs, new Map([['body', { type: 'graph', value: body }]])),
  )
  g.graph.outputs.push(...outputs)
}
