/** @file Replaces MoE of the user's graph by com.microsoft QMoE (opset 1, for the CPU kernel of onnxruntime 1.30). */

import { internalError } from '../../errors.ts'
import { GraphWriter } from '../../graph/graph-writer.ts'
import { type Model, type Node, replaceOutput, type Value } from '../../graph/ir.ts'
import { readBytes, type Tensor } from '../../graph/tensor.ts'
import type { PackedWeight } from '../../kernels/pack/matmul-nbits.ts'

export interface ExportedExperts {
  /** The MoE of the user's graph. */
  readonly origin: Node
  /** Weights of every expert, in order. */
  readonly fc1: readonly PackedWeight[]
  readonly fc2: readonly PackedWeight[]
}

/** Inputs of MoE. */
const [INPUT, ROUTER, FC1, BIAS1, FC2, BIAS2] = [0, 1, 2, 3, 4, 5]

/** Tensors of one type and shape stacked along a new first axis: [rows, ..] each -> [count, rows, rest]. */
function stacked(tensors: readonly Tensor[]): Tensor {
  const [{ dtype, dims }] = tensors as [Tensor]
  const [rows, ...rest] = dims as [number, ...number[]]
  const data = Buffer.concat(tensors.map(readBytes))
  return {
    dtype,
    dims: [tensors.length, rows, rest.reduce((a, b) => a * b, 1)],
    data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
  }
}

/** Constants of fc1 or fc2 of all experts: codes [E, rows, K * bits / 8], scales and zero points [E, rows, blocks ..]. */
function writeWeights(writer: GraphWriter, stored: Value, packed: readonly PackedWeight[]): (Value | undefined)[] {
  const constant = (suffix: string, tensors: readonly Tensor[]) =>
    writer.constant(`${stored.name}_${suffix}`, stacked(tensors))
  const zeroPoints = packed.flatMap(weight => weight.zeroPoints ?? [])
  return [
    constant(
      `Q${packed[0]!.bits}`,
      packed.map(({ b }) => b),
    ),
    constant(
      'scales',
      packed.map(({ scales }) => scales),
    ),
    zeroPoints.length > 0 ? constant('zero_points', zeroPoints) : undefined,
  ]
}

/**
 * Replaces MoE nodes in `model.graph` and the bodies in it, in place. Without given weights, QMoE mixes by the softmax over the
 * chosen logits, whatever its normalize_routing_weights says. Where MoE mixes by the softmax over all logits, that softmax is written
 * before QMoE and given to it.
 */
export function exportExperts(model: Model, experts: readonly ExportedExperts[]): void {
  if (experts.length === 0) return
  const writer = new GraphWriter(model)
  const byOrigin = new Map(experts.map(each => [each.origin, each]))
  writer.rewriteNodes(node => {
    const found = byOrigin.get(node)
    if (!found) return [node]
    byOrigin.delete(node)
    replaceOutput(writeExperts(writer, found), node.outputs[0]!)
    return writer.take()
  })
  if (byOrigin.size > 0)
    throw internalError(`experts that are not in the graph: ${[...byOrigin.keys()].map(n => n.name)}`)
  writer.dropOrphans()
}

function writeExperts(writer: GraphWriter, { origin, fc1, fc2 }: ExportedExperts): Value {
  const { inputs } = origin
  const g = writer.at({ values: origin.outputs[0]!.name, nodes: origin.name })
  const [codes1, scales1, zeros1] = writeWeights(writer, inputs[FC1!]!, fc1)
  const [codes2, scales2, zeros2] = writeWeights(writer, inputs[FC2!]!, fc2)
  const router = inputs[ROUTER!]!
  const mixing =
    origin.int('normalize_routing_weights', 0) === 1
      ? undefined
      : g.op('Softmax', [router], { axis: -1 }, { role: 'routing_weights' })
  const first = [codes1, scales1, inputs[BIAS1!]]
  const second = [codes2, scales2, inputs[BIAS2!]]
  // Missing: fc3 with its scales and bias, and its zero points.
  const fc3 = [undefined, undefined, undefined]
  const all = [inputs[INPUT!], router, ...first, ...second, ...fc3, zeros1, zeros2, undefined, mixing]
  while (all.at(-1) === undefined) all.pop()
  const { bits, blockSize } = fc1[0]!
  const output = g.op(
    'QMoE',
    all,
    { expert_weight_bits: bits, block_size: blockSize },
    { role: `Q${bits}`, domain: 'com.microsoft' },
  )
  const { producer } = output
  for (const [name, attribute] of origin.attributes)
    if (name !== 'use_sparse_mixer') producer!.attributes.set(name, attribute)
  producer!.source = origin.source
  return output
}
