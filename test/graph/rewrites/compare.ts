/** @file Runs a fused op as onnxruntime has it and as our rewrite says it, on the same numbers. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import { VJP_RULES } from '../../../src/autodiff/vjp-rules.ts'
import { type AttributeInput, float } from '../../../src/graph/builder.ts'
import { encodeModel } from '../../../src/graph/onnx-file/encode.ts'
import { type Attribute, Graph, newModel, Node, Value } from '../../../src/graph/ir.ts'
import { RewriteBuilder } from '../../../src/graph/rewrites/rewrite-builder.ts'
import { REWRITES } from '../../../src/graph/rewrites/table.ts'
import { elementCount, floatTensor, readNumbers, type Tensor, tensorOf } from '../../../src/graph/tensor.ts'
import { openModel, runGraph, type Tensors } from '../../../src/kernels/session.ts'

export { float }

/** Numbers in (-1, 1) that are the same for the same seed (mulberry32). */
export function randomNumbers(count: number, seed: number): number[] {
  let state = seed
  return Array.from({ length: count }, () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return (((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * 2 - 1
  })
}

export function random(dims: readonly number[], seed: number, scale = 1): Tensor {
  const numbers = randomNumbers(elementCount(dims), seed)
  return floatTensor(
    dims,
    numbers.map(number => number * scale),
  )
}

export function int32(dims: readonly number[], values: readonly number[]): Tensor {
  return tensorOf('int32', dims, Int32Array.from(values))
}

export function bool(dims: readonly number[], values: readonly boolean[]): Tensor {
  return tensorOf('bool', dims, Uint8Array.from(values, Number))
}

/** A node to be rewritten. Inputs whose index is in `constants` are initializers, the others are fed. */
export interface Fused {
  /** As `Node.kind`. */
  readonly kind: string
  readonly inputs: readonly (Tensor | undefined)[]
  readonly attributes?: Readonly<Record<string, AttributeInput>>
  readonly constants?: readonly number[]
  /** Names in the output list; '' is an output left out. */
  readonly outputs?: readonly string[]
  readonly opset?: number
}

function attributeMap(attributes: Readonly<Record<string, AttributeInput>> = {}): Map<string, Attribute> {
  return new Map(
    Object.entries(attributes).map(([name, value]): [string, Attribute] => {
      if (typeof value === 'number') return [name, { type: 'int', value }]
      if (typeof value === 'string') return [name, { type: 'string', value }]
      return [name, Array.isArray(value) ? { type: 'ints', value } : (value as Attribute)]
    }),
  )
}

/** The node as a loaded graph has it: with values of a user's file, without inferred shapes. */
export function fusedNode({ kind, attributes, outputs = ['y'] }: Fused, inputs: readonly (Value | undefined)[]): Node {
  const dot = kind.lastIndexOf('.')
  const values = outputs.map(name => (name === '' ? undefined : new Value(name, 'float32')))
  return new Node(
    kind.slice(dot + 1),
    [...inputs],
    values,
    attributeMap(attributes),
    kind.slice(0, Math.max(0, dot)),
    'fused',
  )
}

function feedsOf({ inputs, constants = [] }: Fused): Tensors {
  return Object.fromEntries(
    inputs.flatMap((tensor, i) => (tensor && !constants.includes(i) ? [[`x${i}`, tensor]] : [])),
  )
}

/** Declares the inputs of `fused` in `graph`. */
function declareInputs({ inputs, constants = [] }: Fused, graph: Graph): (Value | undefined)[] {
  return inputs.map((tensor, i) => {
    if (!tensor) return undefined
    const constant = constants.includes(i)
    const value = new Value(`x${i}`, tensor.dtype, tensor.dims, constant ? tensor : undefined)
    if (constant) graph.initializers.push(value)
    else graph.inputs.push(value)
    return value
  })
}

/** Result of onnxruntime's own kernel for the node, in a file of `opset`. */
export async function runFused(fused: Fused): Promise<Tensors> {
  const graph = new Graph('fused')
  const node = fusedNode(fused, declareInputs(fused, graph))
  graph.nodes.push(node)
  graph.outputs = node.outputs.filter(output => output !== undefined)
  return runAtOpset(graph, feedsOf(fused), fused.opset ?? 21)
}

/** Runs a graph from a file that says `opset`. */
export async function runAtOpset(graph: Graph, feeds: Tensors, opset: number): Promise<Tensors> {
  const folder = mkdtempSync(join(tmpdir(), 'omniquant-rewrite-'))
  try {
    const path = join(folder, 'model.onnx')
    writeFileSync(path, encodeModel(newModel(graph, opset)))
    const session = await openModel(path)
    try {
      return await session.run(feeds)
    } finally {
      await session.release()
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** The rewritten node in a graph of its own. */
export function rewriteGraph(fused: Fused): RewriteBuilder {
  const g = new RewriteBuilder()
  const inputs = fused.inputs.map((tensor, i) => {
    if (!tensor) return undefined
    if (fused.constants?.includes(i)) return g.initializer(`x${i}`, tensor)
    return g.input(`x${i}`, tensor.dtype, tensor.dims)
  })
  const node = fusedNode(fused, inputs)
  const outputs = REWRITES.get(fused.kind)!(g, node, inputs)
  node.outputs.forEach((output, i) => {
    const value = outputs[i]
    if (output && value) g.output(value, output.name)
  })
  return g
}

/** Runs the rewritten node; checks that what is left has gradients, is not fused, and has the shapes inferred. */
export async function runRewritten(fused: Fused): Promise<Tensors> {
  const { graph } = rewriteGraph(fused)
  const kinds = graph.nodes.map(node => node.kind)
  // Gather is a primitive; its rule only chooses which table to gather from.
  const isFused = (kind: string) => REWRITES.has(kind) && kind !== 'Gather'
  expect(kinds.filter(kind => isFused(kind) || !(kind in VJP_RULES))).toEqual([])
  const results = await runGraph(graph, feedsOf(fused))
  for (const output of graph.outputs) expect(results[output.name]!.dims, output.name).toEqual(output.shape)
  return results
}

/** Every number is within `tolerance` of the expected one, relative to it if it is above 1. */
export function expectClose(actual: Tensor | undefined, expected: Tensor | undefined, tolerance = 1e-5): void {
  expect(actual?.dims).toEqual(expected!.dims)
  const [a, b] = [readNumbers(actual!), readNumbers(expected!)]
  const error = Math.max(...a.map((number, i) => Math.abs(number - b[i]!) / Math.max(1, Math.abs(b[i]!))))
  expect(error).toBeLessThanOrEqual(tolerance)
}

/** The rewritten node gives what onnxruntime's kernel gives, on every output named in `compare`. */
export async function expectSame(fused: Fused, compare: readonly string[] = ['y'], tolerance = 1e-5): Promise<void> {
  const [expected, actual] = [await runFused(fused), await runRewritten(fused)]
  for (const name of compare) expectClose(actual[name], expected[name], tolerance)
}
