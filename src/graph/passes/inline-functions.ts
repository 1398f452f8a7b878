/** @file A node that calls a function of the file, as the nodes of that function. Changes neither of them. */

import { QuantError } from '../../errors.ts'
import { type Attribute, Graph, type LocalFunction, Node, Value } from '../ir.ts'
import { MAX_CALL_DEPTH, MAX_NODES } from '../limits.ts'

/**
 * Nodes a call of each function stands for, functions it calls written out. Calls in a circle, and deeper than any are followed,
 * count as one.
 */
function writtenOutSizes(functions: ReadonlyMap<string, LocalFunction>): ReadonlyMap<string, number> {
  const sizes = new Map<string, number>()
  const sizeOf = (kind: string, depth: number): number => {
    const local = functions.get(kind)
    if (local === undefined || depth > MAX_CALL_DEPTH) return 1
    const known = sizes.get(kind)
    if (known !== undefined) return known
    sizes.set(kind, 1)
    const size = local.body.nodes.reduce((sum, node) => sum + sizeOf(node.kind, depth + 1), 0)
    sizes.set(kind, size)
    return size
  }
  for (const kind of functions.keys()) sizeOf(kind, 0)
  return sizes
}

/** The calls that are being written out, and what all of them have come to. */
export class Calls {
  private readonly open = new Set<string>()
  private readonly sizes: ReadonlyMap<string, number>
  private written = 0

  constructor(functions: ReadonlyMap<string, LocalFunction>) {
    this.sizes = writtenOutSizes(functions)
  }

  /** @throws E_NOT_ONNX for a function that calls itself; E_TOO_LARGE, before anything of it is copied. */
  enter({ kind, name }: Node): void {
    if (this.open.has(kind)) throw new QuantError('E_NOT_ONNX', `the function ${kind} calls itself`)
    const hint = 'Export the model with its functions inlined.'
    if (this.open.size === MAX_CALL_DEPTH)
      throw new QuantError(
        'E_TOO_LARGE',
        `functions call functions deeper than ${MAX_CALL_DEPTH}, the last ${kind}`,
        hint,
      )
    if (this.open.size === 0) this.written += this.sizes.get(kind) ?? 1
    if (this.written > MAX_NODES)
      throw new QuantError(
        'E_TOO_LARGE',
        `with its functions written out, as far as ${kind} "${name}", the graph has more than ${MAX_NODES} nodes`,
        hint,
      )
    this.open.add(kind)
  }

  leave({ kind }: Node): void {
    this.open.delete(kind)
  }
}

/** Attributes of a node of a body, with what the caller passes in place of references; what nobody passes is left out. */
function resolved(node: Node, call: Node, { defaults }: LocalFunction): Map<string, Attribute> {
  const entries = [...node.attributes].flatMap(([name, attribute]): [string, Attribute][] => {
    if (attribute.type !== 'reference') return [[name, attribute]]
    const passed = call.attributes.get(attribute.value) ?? defaults.get(attribute.value)
    return passed ? [[name, passed]] : []
  })
  return new Map(entries)
}

/**
 * What `call` stands for (ONNX IR, "Functions"): nodes that read the inputs of the call, and the values it gives, in order. The call
 * is their origin: it is the node of the user's graph they were made from.
 * @throws E_UNSUPPORTED for functions with control flow.
 */
export function inline(call: Node, local: LocalFunction): Graph {
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
