/** @file Puts quantized weights into the user's own graph. The only file that knows what onnxruntime calls block_size. */

import { type Attribute, consumersOf, type Graph, type Model, Node, Value } from '../graph/ir.ts'
import { type PackedWeight } from '../kernels/pack.ts'

export interface ExportedLinear {
  /** The MatMul or Gemm of the user's graph. */
  readonly origin: Node
  readonly packed: PackedWeight
  readonly inFeatures: number
  readonly outFeatures: number
}

export interface ExportOptions {
  /** MatMulNBits' accuracy_level: 0 computes in float32, 4 quantizes activations to int8 on the fly (faster, less exact). */
  readonly accuracyLevel: 0 | 4
}

/** Names that are free in the graph. */
function freshNames(graph: Graph): (stem: string) => string {
  const taken = new Set<string>()
  for (const value of [...graph.inputs, ...graph.initializers]) taken.add(value.name)
  for (const node of graph.nodes) for (const output of node.outputs) if (output) taken.add(output.name)
  return stem => {
    let name = stem
    for (let i = 1; taken.has(name); i++) name = `${stem}_${i}`
    taken.add(name)
    return name
  }
}

const int = (value: number): Attribute => ({ type: 'int', value })

/**
 * Replaces linears by com.microsoft MatMulNBits (Gemm's bias becomes an Add) in `model.graph`, in place: names, inputs,
 * outputs and everything else stay. Weights nothing reads any more are dropped.
 */
export function exportLinears(
  model: Model,
  linears: readonly ExportedLinear[],
  { accuracyLevel }: ExportOptions,
): void {
  const { graph } = model
  const fresh = freshNames(graph)
  const replacements = new Map<Node, Node[]>()
  for (const { origin, packed, inFeatures, outFeatures } of linears) {
    const stem = origin.inputs[1]!.name
    const add = (suffix: string, tensor: PackedWeight['b']): Value => {
      const value = new Value(fresh(`${stem}_${suffix}`), tensor.dtype, tensor.dims, tensor)
      graph.initializers.push(value)
      return value
    }
    const inputs = [origin.inputs[0], add(`Q${packed.bits}`, packed.b), add('scales', packed.scales)]
    if (packed.zeroPoints) inputs.push(add('zero_points', packed.zeroPoints))
    const attributes = new Map([
      ['K', int(inFeatures)],
      ['N', int(outFeatures)],
      ['bits', int(packed.bits)],
      ['block_size', int(packed.blockSize)],
      ...(accuracyLevel === 0 ? [] : [['accuracy_level', int(accuracyLevel)] as const]),
    ])
    const [output] = origin.outputs as [Value]
    const bias = origin.kind === 'Gemm' ? origin.inputs[2] : undefined
    const product = bias ? new Value(fresh(`${output.name}_product`), output.dtype, output.shape) : output
    const name = origin.name === '' ? '' : `${origin.name}_Q${packed.bits}`
    const quantized = new Node('MatMulNBits', inputs, [product], attributes, 'com.microsoft', name)
    quantized.source = origin.source
    const nodes = [quantized]
    if (bias) nodes.push(new Node('Add', [product, bias], [output], new Map(), '', name && `${name}_bias`))
    replacements.set(origin, nodes)
  }
  const readBefore = readValues(graph)
  graph.nodes = graph.nodes.flatMap(node => replacements.get(node) ?? [node])
  dropOrphans(graph, readBefore)
  if (!model.opsetImports.some(({ domain }) => domain === 'com.microsoft'))
    model.opsetImports.push({ domain: 'com.microsoft', version: 1 })
}

/** Drops what had readers before the replacement and has none now: weights, and the nodes that only rearranged them. */
function dropOrphans(graph: Graph, readBefore: ReadonlySet<Value>): void {
  for (;;) {
    const read = readValues(graph)
    const orphan = (value: Value | undefined) => value === undefined || (readBefore.has(value) && !read.has(value))
    const nodes = graph.nodes.filter(node => !node.outputs.every(orphan))
    if (nodes.length === graph.nodes.length) {
      const dead = new Set(graph.initializers.filter(orphan))
      graph.initializers = graph.initializers.filter(value => !dead.has(value))
      // Initializers may be listed as inputs too (a habit of IR 3): without their tensor they would become required.
      graph.inputs = graph.inputs.filter(value => !dead.has(value))
      return
    }
    graph.nodes = nodes
  }
}

const readValues = (graph: Graph): Set<Value> => new Set([...consumersOf(graph).keys(), ...graph.outputs])
