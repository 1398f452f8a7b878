/** @file QMoE nodes with our codes against onnxruntime's MoE with the weights these stand for. */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Attribute, Graph, type Model, newModel, Node, Value } from '../../../src/graph/ir.ts'
import { elementCount, floatTensor, type Tensor } from '../../../src/graph/tensor.ts'
import { packMatMulNBits, type PackedWeight } from '../../../src/kernels/pack/matmul-nbits.ts'
import { groupsOf } from '../../../src/kernels/qparams.ts'
import { exportExperts } from '../../../src/quant/export/qmoe.ts'
import { noise } from '../../kernels/weights.ts'
import { relativeError, runModel } from './user-graph.ts'

const [H, I, E, T] = [128, 256, 3, 6]

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'omniquant-qmoe-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

interface Scheme {
  readonly bits: number
  readonly group: number
  readonly symmetric: boolean
  readonly blockSize: number
}

/** Random codes of a weight [K, N], packed, and what they stand for as [N, K]. */
function weight(K: number, N: number, scheme: Scheme, seed: number): { packed: PackedWeight; floats: Float32Array } {
  const { bits, group, symmetric } = scheme
  const levels = 2 ** bits
  const { count, size } = groupsOf(K, group)
  const whole = (length: number, first: number) =>
    Uint8Array.from(noise(length, first), x => Math.floor(Math.abs(x * 1e4)) % levels)
  const codes = whole(K * N, seed)
  const scale = noise(count * N, seed + 1).map(x => 0.05 + 0.1 * Math.abs(x))
  const zeroPoint = symmetric ? new Uint8Array(count * N).fill(levels / 2) : whole(count * N, seed + 2)
  const packed = packMatMulNBits({
    ...scheme,
    symmetric: symmetric && bits > 2,
    codes,
    scale,
    zeroPoint,
    K,
    N,
    scaleDtype: 'float32',
  })
  const floats = Float32Array.from({ length: K * N }, (_, i) => {
    const [n, k] = [Math.floor(i / K), i % K]
    const at = Math.floor(k / size) * N + n
    return (codes[k * N + n]! - zeroPoint[at]!) * scale[at]!
  })
  return { packed, floats }
}

function moeModel(
  fc1: Float32Array[],
  fc2: Float32Array[],
  attributes: [string, Attribute][],
): { model: Model; node: Node } {
  const graph = new Graph('user')
  const constant = (name: string, dims: number[], numbers: Float32Array) => {
    const value = new Value(name, 'float32', dims, floatTensor(dims, numbers))
    graph.initializers.push(value)
    return value
  }
  const stack = (parts: Float32Array[]) => Float32Array.from(parts.flatMap(part => [...part]))
  const [x, router, y] = [
    new Value('x', 'float32', ['tokens', H]),
    new Value('router', 'float32', ['tokens', E]),
    new Value('y', 'float32'),
  ]
  graph.inputs.push(x, router)
  const rows = fc1[0]!.length / H
  const inputs = [
    ...[x, router, constant('fc1', [E, rows, H], stack(fc1)), constant('b1', [E, rows], noise(E * rows, 5))],
    ...[constant('fc2', [E, H, I], stack(fc2)), constant('b2', [E, H], noise(E * H, 6))],
  ]
  const node = new Node(
    'MoE',
    [...inputs, undefined, undefined],
    [y],
    new Map(attributes),
    'com.microsoft',
    'layers.0/moe',
  )
  graph.nodes.push(node)
  graph.outputs.push(y)
  return { model: newModel(graph), node }
}

const int = (value: number): Attribute => ({ type: 'int', value })
const float = (value: number): Attribute => ({ type: 'float', value })
const text = (value: string): Attribute => ({ type: 'string', value })
const SWIGLU: [string, Attribute][] = [
  ['activation_type', text('swiglu')],
  ['swiglu_fusion', int(1)],
  ['activation_alpha', float(1.702)],
  ['activation_beta', float(1)],
]

test.each<[Scheme, number, string]>([
  [{ bits: 4, group: 32, symmetric: false, blockSize: 32 }, 1, 'swiglu'],
  [{ bits: 4, group: 256, symmetric: false, blockSize: 64 }, 0, 'swiglu'],
  [{ bits: 4, group: 32, symmetric: true, blockSize: 16 }, 0, 'silu'],
  [{ bits: 3, group: 64, symmetric: false, blockSize: 32 }, 1, 'silu'],
  [{ bits: 3, group: 256, symmetric: true, blockSize: 64 }, 1, 'silu'],
  [{ bits: 2, group: 16, symmetric: false, blockSize: 16 }, 1, 'relu'],
  [{ bits: 2, group: 256, symmetric: true, blockSize: 16 }, 0, 'relu'],
  [{ bits: 8, group: 64, symmetric: false, blockSize: 64 }, 1, 'swiglu'],
  [{ bits: 5, group: 32, symmetric: true, blockSize: 32 }, 0, 'swiglu'],
])('%o, normalize_routing_weights %d, %s', async (scheme, normalize, activation) => {
  const rows = activation === 'swiglu' ? 2 * I : I
  const fc1 = Array.from({ length: E }, (_, e) => weight(H, rows, scheme, 10 * e + 1))
  const fc2 = Array.from({ length: E }, (_, e) => weight(I, H, scheme, 10 * e + 5))
  const kind: [string, Attribute][] = activation === 'swiglu' ? SWIGLU : [['activation_type', text(activation)]]
  const attributes: [string, Attribute][] = [
    ...kind,
    ['k', int(2)],
    ['normalize_routing_weights', int(normalize)],
    ['use_sparse_mixer', int(0)],
  ]
  const feeds: Record<string, Tensor> = {
    x: floatTensor([T, H], noise(T * H, 3)),
    router: floatTensor(
      [T, E],
      noise(T * E, 4).map(logit => 4 * logit),
    ),
  }
  const floats = (weights: typeof fc1) => weights.map(each => each.floats)
  const before = await runModel(moeModel(floats(fc1), floats(fc2), attributes).model, feeds, folder)
  const { model, node } = moeModel(floats(fc1), floats(fc2), attributes)
  const packed = (weights: typeof fc1) => weights.map(each => each.packed)
  exportExperts(model, [{ origin: node, fc1: packed(fc1), fc2: packed(fc2) }])
  expect(model.graph.nodes.map(({ opType }) => opType)).toEqual(normalize ? ['QMoE'] : ['Softmax', 'QMoE'])
  const largest = Math.max(...model.graph.initializers.map(({ tensor }) => elementCount(tensor!.dims)))
  expect(largest).toBeLessThanOrEqual((E * rows * H) / (8 / fc1[0]!.packed.bits))
  const after = await runModel(model, feeds, folder)
  expect(relativeError(after['y']!, before['y']!)).toBeLessThan(1e-6)
})
