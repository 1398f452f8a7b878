/** @file Pass: replaces a node that calls a function of the file by the nodes of that function. Changes neither of them. */

import { QuantError } from '../../errors.ts'
import { dependencies } from '../dependencies.ts'
import { type Attribute, Graph, type LocalFunction, Node, Value } from '../ir.ts'
import { REWRITES } from '../rewrites/table.ts'
import type { BodyPass } from './pass.ts'

/** Attributes of a node of a body. References are replaced by the attributes of the call, or by defaults; others are left out. */
function resolved(node: Node, call: Node, { defaults }: LocalFunction): Map<string, Attribute> {
  const entries = [...node.attributes].flatMap(([name, attribute]): [string, Attribute][] => {
    if (attribute.type !== 'reference') return [[name, attribute]]
    const passed = call.attributes.get(attribute.value) ?? defaults.get(attribute.value)
    return passed ? [[name, passed]] : []
  })
  return new Map(entries)
}

/**
 * The nodes that `call` stands for (ONNX IR, "Functions"), which read the inputs of the call, and its outputs, in order. Their origin
 * is the call, because it is a node of the user's graph.
 * @throws E_UNSUPPORTED for functions with control flow.
 */
function inline(call: Node, local: LocalFunction): Graph {
  const { body } = local
  const values = new Map<Value, Value | undefined>()
  body.inputs.forEach((formal, i) => values.set(formal, call.inputs[i]))
  const own = (value: Value): Value => {
    const copy = new Value(`${call.name}/${value.name}`, value.dtype, value.shape, value.tensor)
    values.set(value, copy)
    return copy
  }
  const mapped = (value: Value | undefined) => value && (values.has(value) ? values.get(value) : own(value))
  const graph = new Graph(call.kind)
  graph.nodes = body.nodes.map(node => {
    if (node.subgraphs().length > 0)
      throw new QuantError(
        'E_UNSUPPORTED',
        `${node.kind} "${node.name}" has branches inside the function ${call.kind} that "${call.name}" calls`,
        'Export the model with its functions inlined.',
      )
    const inputs = node.inputs.map(mapped)
    const outputs = node.outputs.map(output => output && own(output))
    const copy = new Node(
      node.opType,
      inputs,
      outputs,
      resolved(node, call, local),
      node.domain,
      `${call.name}/${node.name}`,
    )
    copy.origin = call.origin ?? call
    return copy
  })
  graph.outputs = body.outputs.map(output => mapped(output) ?? own(output))
  return graph
}

/** Ops that have a rewrite are rewritten instead: exporters add functions for fused ops, which runtimes without the op use. */
export const INLINE_FUNCTIONS: BodyPass = {
  name: 'inline functions',
  bodyOf: ({ functions, calls, opset }, node) => {
    const local = REWRITES.has(node.kind) ? undefined : functions.get(node.kind)
    if (!local) return undefined
    calls.enter(node)
    return {
      graph: inline(node, local),
      inputs: [...dependencies(node)],
      opset: local.opset || opset,
      leave: () => calls.leave(node),
    }
  },
}
