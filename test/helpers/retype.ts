/** @file A model with one float type in place of another, as exporters write for --dtype. */

import { type DType, dtypeNumber, type FloatType } from '../../src/graph/dtype.ts'
import type { Graph, Model, Value } from '../../src/graph/ir.ts'
import type { Tensor } from '../../src/graph/tensor.ts'
import { readFloats, storeFloats } from '../../src/kernels/float16.ts'

/** Replaces type `from` by `to` in place, in constants and Casts too. */
export function retype(model: Model, from: FloatType, to: FloatType): Model {
  const retyped = (tensor: Tensor): Tensor =>
    tensor.dtype === from ? storeFloats(to, tensor.dims, readFloats(tensor)) : tensor
  const typeOf = (dtype: DType | undefined) => (dtype === from ? to : dtype)
  const visitValue = (value: Value | undefined) => {
    if (!value) return
    value.dtype = typeOf(value.dtype)
    value.source = undefined
    if (value.tensor) value.tensor = retyped(value.tensor)
  }
  const visit = (graph: Graph) => {
    // Declared types of inner values are the old ones.
    graph.source = undefined
    const values = new Set([...graph.inputs, ...graph.initializers, ...graph.outputs])
    for (const node of graph.nodes) {
      for (const output of node.outputs) if (output) values.add(output)
      for (const [name, attribute] of node.attributes) {
        if (attribute.type === 'tensor') node.attributes.set(name, { type: 'tensor', value: retyped(attribute.value) })
        if (node.kind === 'Cast' && name === 'to' && attribute.value === dtypeNumber(from))
          node.attributes.set(name, { type: 'int', value: dtypeNumber(to) })
      }
      node.subgraphs().forEach(visit)
    }
    values.forEach(visitValue)
  }
  visit(model.graph)
  return model
}
