/** @file A float32 program as the same program in float64, for comparisons to nine digits. */

import { dtypeNumber } from '../../src/graph/dtype.ts'
import { Graph, Node, Value } from '../../src/graph/ir.ts'
import { readElements, tensorOf } from '../../src/graph/tensor.ts'

/** Copies `graph` (no subgraphs) with every float32 value, constant and cast made float64. */
export function inDoublePrecision(graph: Graph): Graph {
  const copy = new Graph(graph.name)
  const values = new Map<Value, Value>()
  const valueOf = (value: Value): Value => {
    const known = values.get(value)
    if (known) return known
    const double = value.dtype === 'float32'
    const tensor =
      double && value.tensor
        ? tensorOf('float64', value.tensor.dims, Float64Array.from(readElements(value.tensor) as Float32Array))
        : value.tensor
    const made = new Value(value.name, double ? 'float64' : value.dtype, value.shape, tensor)
    values.set(value, made)
    return made
  }
  const float32 = dtypeNumber('float32')
  for (const node of graph.nodes) {
    const attributes = new Map(node.attributes)
    if (node.kind === 'Cast' && node.int('to', 0) === float32)
      attributes.set('to', { type: 'int', value: dtypeNumber('float64') })
    const inputs = node.inputs.map(input => input && valueOf(input))
    const outputs = node.outputs.map(output => output && valueOf(output))
    copy.nodes.push(new Node(node.opType, inputs, outputs, attributes, node.domain, node.name))
  }
  copy.inputs = graph.inputs.map(valueOf)
  copy.initializers = graph.initializers.map(valueOf)
  copy.outputs = graph.outputs.map(valueOf)
  return copy
}
