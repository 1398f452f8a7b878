/**
 * @file Precision of a program's matrix products: a pass over a finished program. On CUDA it makes them bfloat16; elsewhere it rounds
 * their operands, so that the accuracy can be measured.
 */

import { Builder } from '../graph/builder.ts'
import { type Graph, Node, type Value } from '../graph/ir.ts'
import { Names } from '../graph/names.ts'
import { type Device, kindOf } from './device.ts'

export const MATMUL_PRECISIONS = ['float32', 'tf32', 'bf16'] as const

/**
 * Numbers that are multiplied: float32; tf32, which has 10 bits after the point and the range of float32; bf16, which has 7. Sums are
 * float32 in all three.
 */
export type MatMulPrecision = (typeof MATMUL_PRECISIONS)[number]

/** 2^13 + 1: splits 24 bits into the upper 11 and the rest. */
const SPLITTER = 2 ** 13 + 1

/** x float32 -> the nearest number with 11 significant bits (Veltkamp 1968; Dekker 1971, doi:10.1007/BF01397083), for |x| < 2^114. */
function roundedToTf32(g: Builder, x: Value): Value {
  const c = g.scale(x, SPLITTER)
  return g.sub(c, g.sub(c, x))
}

const roundedToBf16 = (g: Builder, x: Value): Value => g.cast(g.cast(x, 'bfloat16'), 'float32')

type Round = (g: Builder, x: Value) => Value

/** Product of `node` with both operands rounded. */
function withRounded(g: Builder, node: Node, round: (x: Value) => Value): void {
  const inputs = node.inputs.map(input => round(input!))
  g.graph.nodes.push(Object.assign(node, { inputs }))
}

/** The product in bfloat16, of which the result is float32 again. */
function inBf16(g: Builder, node: Node, round: (x: Value) => Value): void {
  const product = g.matMul(round(node.inputs[0]!), round(node.inputs[1]!))
  const { opType, inputs, attributes } = g.cast(product, 'float32').producer!
  g.graph.nodes[g.graph.nodes.length - 1] = new Node(opType, inputs, node.outputs, attributes, '', node.name)
}

interface Rewrite {
  readonly round: Round
  readonly write: typeof withRounded
}

/** Rewrites by precision and kind of device; none where products are what they should be, or the device sees to it itself. */
function rewriteOf(precision: MatMulPrecision, device: Device): Rewrite | undefined {
  const onCuda = kindOf(device) === 'cuda'
  const rewrites: Readonly<Record<MatMulPrecision, Rewrite | undefined>> = {
    float32: undefined,
    // cuBLAS rounds the operands itself.
    tf32: onCuda ? undefined : { round: roundedToTf32, write: withRounded },
    bf16: onCuda
      ? { round: (g, x) => g.cast(x, 'bfloat16'), write: inBf16 }
      : { round: roundedToBf16, write: withRounded },
  }
  return rewrites[precision]
}

/** Names of all values of a graph and of the graphs inside it. */
function namesIn(graph: Graph): string[] {
  const values = [...graph.inputs, ...graph.initializers, ...graph.nodes.flatMap(({ outputs }) => outputs)]
  const own = values.flatMap(value => (value ? [value.name] : []))
  return [...own, ...graph.nodes.flatMap(node => node.subgraphs().flatMap(namesIn))]
}

/**
 * Changes the float32 products of `program`, and of the graphs inside it, in place. On CUDA "float32" and "tf32" change nothing: cuBLAS
 * rounds to tf32 unless the environment forbids it (NVIDIA_TF32_OVERRIDE=0).
 */
export function setProductPrecision(program: Graph, precision: MatMulPrecision, device: Device): void {
  const rewrite = rewriteOf(precision, device)
  if (rewrite) rewriteProducts(program, rewrite, new Names(namesIn(program)))
}

function rewriteProducts(program: Graph, rewrite: Rewrite, names: Names): void {
  const nodes = program.nodes.splice(0)
  const g = new Builder(program, names)
  const rounded = new Map<Value, Value>()
  for (const node of nodes) {
    for (const body of node.subgraphs()) rewriteProducts(body, rewrite, names)
    if (node.kind !== 'MatMul' || node.inputs[0]?.dtype !== 'float32') {
      program.nodes.push(node)
      continue
    }
    rewrite.write(g, node, x => {
      const known = rounded.get(x) ?? rewrite.round(g, x)
      rounded.set(x, known)
      return known
    })
  }
}
