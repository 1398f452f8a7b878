/**
 * @file Makes the working copy: the user's graph as about thirty float32 primitives of fixed shape, for tracing and differentiating,
 * never for saving. Applies the passes of passes.ts, and computes constants in between. Runs nothing itself: the caller passes an
 * evaluator.
 */

import { internalError, QuantError } from '../../errors.ts'
import { dependencies } from '../dependencies.ts'
import { extract } from '../extract.ts'
import type { Graph, Model, Node, Value } from '../ir.ts'
import { staticShape } from '../shape.ts'
import { elementCount } from '../tensor.ts'
import { inModel } from './blame.ts'
import { CopyWriter, type NormalizeOptions } from './copy-writer.ts'
import type { Body, Inputs } from './pass.ts'
import { BODY_PASSES, GRAPH_PASSES, NODE_PASSES, VALUE_PASSES } from './passes.ts'

export type { NormalizeOptions } from './copy-writer.ts'

/** The working copy of a model. */
export interface WorkingCopy {
  readonly graph: Graph
  /** Values of the user's graph -> values of `graph`. Aliases, and constants of equal contents, share one. */
  readonly values: ReadonlyMap<Value, Value>
}

/** Most elements of constants that are computed along with those a node needs: most of them are shape arithmetic. */
const MAX_SHAPE_ELEMENTS = 64

/** Goes through the nodes of the user's graph, in order. */
class Copier {
  private readonly state: CopyWriter
  /** Values of the user's graphs that a copied node reads. Other outputs of a body are not copied. */
  private readonly read = new Set<Value>()

  constructor(state: CopyWriter) {
    this.state = state
  }

  /** Copies the nodes of a graph that `outputs` need. */
  async addGraph(graph: Graph, inputs: readonly Value[], outputs: readonly Value[]): Promise<void> {
    const { nodes } = extract(graph, inputs, outputs)
    for (const value of [...outputs, ...nodes.flatMap(node => [...dependencies(node)])]) this.read.add(value)
    for (const node of nodes) {
      const body = await this.bodyOf(node)
      await (body ? this.addBody(node, body) : this.add(node))
    }
  }

  private async bodyOf(node: Node): Promise<Body | undefined> {
    for (const pass of BODY_PASSES) {
      const body = await pass.bodyOf(this.state, node)
      if (body) return body
    }
    return undefined
  }

  /** Copies the outputs of a body that are read, in place of `node`. */
  private async addBody(node: Node, body: Body): Promise<void> {
    const pairs = node.outputs.flatMap((output, i) => {
      if (!output || !this.read.has(output)) return []
      const inner = body.graph.outputs[i]
      if (inner) return [{ output, inner }]
      throw new QuantError(
        'E_NOT_ONNX',
        `${node.kind} "${node.name}" has ${node.outputs.length} outputs, but "${body.graph.name}" makes ${body.graph.outputs.length}`,
        'Export the model again.',
      )
    })
    const { opset } = this.state
    this.state.opset = body.opset
    await this.addGraph(
      body.graph,
      body.inputs,
      pairs.map(({ inner }) => inner),
    )
    for (const { output, inner } of pairs) this.state.values.set(output, this.state.lookup(inner)!)
    this.state.opset = opset
    body.leave?.()
  }

  /** Copies one node. Constants that its shape depends on are computed when a pass turns out to need them. */
  private async add(node: Node): Promise<void> {
    const { state } = this
    const inputs = node.inputs.map(input => state.lookup(input))
    let outputs: Inputs
    try {
      outputs = this.write(node, inputs)
    } catch (error) {
      const unknown = inputs.filter(input => input !== undefined && state.pending.has(input)) as Value[]
      const mayHelp = error instanceof QuantError && error.code === 'E_UNSUPPORTED'
      if (!mayHelp || unknown.length === 0) throw inModel(error, node, inputs)
      const small = [...state.pending].filter(value => elementCount(staticShape(value)) <= MAX_SHAPE_ELEMENTS)
      await state.fold(new Set([...unknown, ...small]))
      try {
        outputs = this.write(node, inputs)
      } catch (again) {
        throw inModel(again, node, inputs)
      }
    }
    node.outputs.forEach((output, i) => {
      const value = outputs[i]
      if (output && value)
        state.values.set(
          output,
          VALUE_PASSES.reduce((current, pass) => pass.replace(state, current), value),
        )
    })
  }

  /** Applies the node passes. @returns the node's outputs in the working copy */
  private write(node: Node, inputs: Inputs): Inputs {
    const result = this.state.write(() => {
      let [current, given] = [node, inputs]
      for (const pass of NODE_PASSES) {
        const step = pass.apply(this.state, current, given)
        if (!step) continue
        if (!('node' in step)) return step
        current = step.node
        given = step.inputs
      }
      throw internalError(`no pass writes ${node.kind} "${node.name}"`)
    }, node.origin ?? node)
    return 'outputs' in result
      ? result.outputs
      : [this.state.constant(node.outputs[0]?.name ?? node.name, result.tensor)]
  }
}

/**
 * Makes the working copy of `model` for the shapes given. Weights stay on disk, in their own type and orientation,
 * behind Transpose, Reshape and Cast nodes. Nodes know the user's node they came from (`origin`).
 * @throws E_UNSUPPORTED naming the node whose shape depends on data or whose op has no rule; E_NOT_ONNX naming a node that breaks the
 * rules of its op; E_TOO_LARGE for shapes and constants no decoder has; E_INPUTS.
 */
export async function normalize(model: Model, options: NormalizeOptions): Promise<WorkingCopy> {
  const wanted = model.graph.outputs.filter(output => options.outputs.includes(output.name))
  const state = new CopyWriter(model, options)
  const inputs = model.graph.inputs.filter(input => !input.tensor)
  await new Copier(state).addGraph(model.graph, inputs, wanted)
  const { graph } = state.g
  graph.outputs = wanted.map(output => {
    const value = state.lookup(output)!
    if (state.isConstant(value))
      throw new QuantError('E_UNSUPPORTED', `output "${output.name}" does not depend on the model's inputs`)
    return value
  })
  for (const pass of GRAPH_PASSES) {
    const replaced = await pass.apply(state)
    for (const [value, working] of state.values) state.values.set(value, replaced.get(working) ?? working)
  }
  return { graph, values: state.values }
}
