/** @file Memory and work that the constants of a graph need, estimated from shapes. Runs nothing and knows no limits. */

import { byteLength } from '../dtype.ts'
import type { Graph, Node, Value } from '../ir.ts'
import { elementCount } from '../tensor.ts'

export interface Cost {
  /** Most bytes of values that are alive at one time, without the initializers. */
  readonly peakBytes: number
  /** Bytes of the outputs. */
  readonly keptBytes: number
  /** Bytes written, 4 more for every multiplication of a product, and the fixed cost of one run. */
  readonly work: number
  /** The largest value. */
  readonly largest: Value
}

/** Fixed cost of making and running a session, in bytes that could be moved in that time. */
const RUN_BYTES = 2 ** 18

const bytesOf = (value: Value): number =>
  byteLength(value.dtype ?? 'float32', elementCount((value.shape ?? []) as number[]))

/** Multiplications per element of a node's output. */
function depthOf(node: Node): number {
  if (node.opType !== 'MatMul' && node.opType !== 'Gemm' && node.opType !== 'FusedMatMul') return 0
  const shape = (node.inputs[0]?.shape ?? []) as number[]
  return shape.at(node.int('transA', 0) === 1 ? -2 : -1) ?? 1
}

/** Estimates the cost of a graph whose nodes are in order and whose shapes are numbers. */
export function costOf({ nodes, outputs }: Pick<Graph, 'nodes' | 'outputs'>): Cost {
  const lastUse = new Map<Value, number>()
  nodes.forEach((node, i) => node.inputs.forEach(input => input && lastUse.set(input, i)))
  for (const output of outputs) lastUse.set(output, nodes.length)
  const made = new Set<Value>()
  let [alive, peakBytes, work] = [0, 0, RUN_BYTES]
  let largest = outputs[0]!
  nodes.forEach((node, i) => {
    for (const output of node.outputs) {
      if (!output) continue
      const bytes = bytesOf(output)
      alive += bytes
      work += bytes * (1 + depthOf(node))
      made.add(output)
      if (bytes > bytesOf(largest)) largest = output
    }
    peakBytes = Math.max(peakBytes, alive)
    for (const value of [...new Set(node.inputs), ...node.outputs])
      if (value && made.has(value) && (lastUse.get(value) ?? i) === i) alive -= bytesOf(value)
  })
  const keptBytes = outputs.reduce((sum, output) => sum + bytesOf(output), 0)
  return { peakBytes, keptBytes, work, largest }
}
