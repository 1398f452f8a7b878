/**
 * @file The working copy: the user's graph as about thirty float32 primitives of fixed shape, made for tracing and
 * differentiating, never for saving. Every node of it knows the user's node it came from (`origin`).
 * Runs nothing itself: constants are folded by an evaluator the caller passes in.
 */

import { QuantError } from '../../errors.ts'
import { Builder } from '../builder.ts'
import { capturedValues, dependencies } from '../dependencies.ts'
import { dtypeFromNumber, isFloat } from '../dtype.ts'
import { extract } from '../extract.ts'
import { inferableKinds } from '../infer-shapes.ts'
import { Graph, type LocalFunction, type Model, type Node, type Value } from '../ir.ts'
import { keepsElements } from '../ops.ts'
import { followRows } from '../rewrites/selected-rows.ts'
import { REWRITES } from '../rewrites/table.ts'
import { constantNumbers, staticShape } from '../shape.ts'
import { elementCount, type Tensor } from '../tensor.ts'
import { inModel } from './blame.ts'
import { FoldBudget } from './fold-budget.ts'
import { Calls, inline } from './inline-functions.ts'
import { modernize } from './modernize.ts'
import { foldedConstant, isNoOp, refuseOverflow, shareEqual, simplify, withoutIdentities } from './simplify.ts'

export interface NormalizeOptions {
  /** Tensor for every graph input that is fixed (masks, positions, an empty cache), by name. */
  readonly fixedInputs: ReadonlyMap<string, Tensor>
  /** Shape of every graph input that stays an input, by name. */
  readonly shapes: ReadonlyMap<string, readonly number[]>
  /** The outputs to keep, by name; what only the others need is dropped. */
  readonly outputs: readonly string[]
  /** Computes the outputs of a graph without inputs. */
  readonly evaluate: (graph: Graph) => Promise<Record<string, Tensor>>
}

/** The working copy of a model. */
export interface WorkingCopy {
  readonly graph: Graph
  /** User's value -> the value of `graph` that stands for it. Several may share one: aliases, constants of equal contents. */
  readonly values: ReadonlyMap<Value, Value>
}

/** 2-D float constants from this many elements on are weights: they stay where they are, and are not folded. */
const MIN_WEIGHT_ELEMENTS = 1024

/** Constants up to this size are shape arithmetic and are evaluated together, as soon as one of them is needed. */
const MAX_SHAPE_ELEMENTS = 64

/** The op only rearranges a weight. */
const rearranges = (kind: string): boolean => keepsElements(kind) || kind === 'Transpose'

class Copier {
  readonly g: Builder = new Builder(new Graph('working copy'))
  private readonly values = new Map<Value, Value>()
  /** Values that depend on constants alone and have not been computed. */
  private readonly pending = new Set<Value>()
  private readonly weights = new Set<Value>()
  /** Values of the user's graphs that something copied reads: of a branch's outputs, only these are copied. */
  private readonly read = new Set<Value>()
  private readonly options: NormalizeOptions
  private readonly functions: NonNullable<Model['functions']>
  private readonly calls: Calls
  private opset: number
  private readonly budget: FoldBudget

  constructor(model: Model, options: NormalizeOptions) {
    this.options = options
    this.functions = model.functions ?? new Map<string, never>()
    this.opset = model.opsetImports.find(({ domain }) => domain === '' || domain === 'ai.onnx')?.version ?? 1
    this.calls = new Calls(this.functions)
    this.budget = new FoldBudget(model, options)
    for (const input of model.graph.inputs) {
      const fixed = options.fixedInputs.get(input.name)
      const shape = options.shapes.get(input.name)
      if (fixed) this.values.set(input, this.constant(input.name, fixed))
      else if (shape && input.dtype) this.values.set(input, this.g.input(input.name, input.dtype, shape))
    }
  }

  /** A constant of the user's graph, as float32 if it is of another float type. */
  private constant(name: string, tensor: Tensor): Value {
    const value = this.g.initializer(name, tensor)
    this.noteWeight(value)
    return this.toFloat32(value)
  }

  private noteWeight(value: Value): void {
    const { dtype, dims } = value.tensor!
    if (isFloat(dtype) && dims.length === 2 && elementCount(dims) >= MIN_WEIGHT_ELEMENTS) this.weights.add(value)
  }

  private toFloat32(value: Value): Value {
    if (value.dtype === undefined || value.dtype === 'float32' || !isFloat(value.dtype)) return value
    return this.emit(() => [this.g.cast(value, 'float32')])[0]!
  }

  private lookup(value: Value | undefined): Value | undefined {
    if (value === undefined) return undefined
    const known = this.values.get(value)
    if (known) return known
    if (!value.tensor) {
      throw new QuantError(
        'E_INPUTS',
        `the graph needs "${value.name}", for which there is no value`,
        'omniquant knows input_ids, attention_mask, position_ids and past key/value inputs.',
      )
    }
    const constant = this.constant(value.name, value.tensor)
    this.values.set(value, constant)
    return constant
  }

  private isConstant(value: Value | undefined): boolean {
    return value === undefined || value.tensor !== undefined || this.pending.has(value) || this.weights.has(value)
  }

  /** Runs `write`, then notes which of the nodes it appended depend on constants alone. */
  private emit(write: () => (Value | undefined)[]): (Value | undefined)[] {
    const { nodes, initializers } = this.g.graph
    const first = nodes.length
    const stored = initializers.length
    try {
      const outputs = write()
      initializers.slice(stored).forEach(value => this.noteWeight(value))
      for (const node of nodes.slice(first)) {
        followRows(node)
        if (!node.inputs.every(input => this.isConstant(input))) continue
        const isWeight = rearranges(node.kind) && this.weights.has(node.inputs[0]!)
        for (const output of node.outputs) if (output) (isWeight ? this.weights : this.pending).add(output)
      }
      return outputs
    } catch (error) {
      nodes.length = first
      throw error
    }
  }

  private write(node: Node, inputs: (Value | undefined)[]): (Value | undefined)[] {
    refuseOverflow(node, inputs)
    const alias = simplify(node, inputs)
    if (alias) return [alias]
    const constant = foldedConstant(node, inputs)
    if (constant) return [this.constant(node.outputs[0]?.name ?? node.name, constant)]
    if (node.subgraphs().length > 0 && inferableKinds.has(node.kind))
      throw new QuantError('E_NOT_ONNX', `${node.kind} "${node.name}" has bodies, which that operator does not take`)
    const rewrite = REWRITES.get(node.kind)
    const first = this.g.graph.nodes.length
    const outputs = this.emit(() => {
      if (rewrite) return rewrite(this.g, node, inputs)
      const modern = modernize(this.g, node, inputs, this.opset)
      const float = modern.kind === 'Cast' && isFloat(dtypeFromNumber(modern.int('to', 1)))
      return float
        ? [this.g.cast(inputs[0]!, 'float32')]
        : this.g.copy(modern, modern === node ? inputs : modern.inputs)
    })
    for (const added of this.g.graph.nodes.slice(first)) added.origin = node.origin ?? node
    return outputs.map(output => (output && isNoOp(output) ? output.producer!.inputs[0] : output))
  }

  /** Copies what `outputs` need of a graph. */
  async addGraph(graph: Graph, inputs: readonly Value[], outputs: readonly Value[]): Promise<void> {
    const { nodes } = extract(graph, inputs, outputs)
    for (const value of [...outputs, ...nodes.flatMap(node => [...dependencies(node)])]) this.read.add(value)
    for (const node of nodes) {
      const local = REWRITES.has(node.kind) ? undefined : this.functions.get(node.kind)
      if (local) await this.addCall(node, local)
      else await (node.kind === 'If' ? this.addBranch(node) : this.add(node))
    }
  }

  /** Copies what is read of a body in place of `node`. */
  private async addBody(node: Node, body: Graph, inputs: readonly Value[]): Promise<void> {
    const pairs = node.outputs.flatMap((output, i) => {
      if (!output || !this.read.has(output)) return []
      const inner = body.outputs[i]
      if (inner) return [{ output, inner }]
      throw new QuantError(
        'E_NOT_ONNX',
        `${node.kind} "${node.name}" has ${node.outputs.length} outputs, but "${body.name}" makes ${body.outputs.length}`,
        'Export the model again.',
      )
    })
    await this.addGraph(
      body,
      inputs,
      pairs.map(({ inner }) => inner),
    )
    for (const { output, inner } of pairs) this.values.set(output, this.lookup(inner)!)
  }

  /** Copies the nodes of the function that `node` calls. */
  private async addCall(node: Node, local: LocalFunction): Promise<void> {
    this.calls.enter(node)
    const { opset } = this
    this.opset = local.opset || opset
    await this.addBody(node, inline(node, local), [...dependencies(node)])
    this.opset = opset
    this.calls.leave(node)
  }

  /** Copies the branch an If takes for the fixed inputs, as if it stood in place of the If. */
  private async addBranch(node: Node): Promise<void> {
    const condition = this.lookup(node.inputs[0])
    if (condition && this.pending.has(condition)) await this.fold(new Set([condition]))
    const [taken] = constantNumbers(condition) ?? []
    const body = node.attributes.get(taken ? 'then_branch' : 'else_branch')
    if (taken === undefined || body?.type !== 'graph')
      throw new QuantError('E_UNSUPPORTED', `which branch of If "${node.name}" runs depends on the tokens`)
    await this.addBody(node, body.value, [...capturedValues(body.value)])
  }

  /** Copies one node; constants its shape depends on are computed when it turns out to need them. */
  private async add(node: Node): Promise<void> {
    const inputs = node.inputs.map(input => this.lookup(input))
    let outputs: (Value | undefined)[]
    try {
      outputs = this.write(node, inputs)
    } catch (error) {
      const unknown = inputs.filter(input => input && this.pending.has(input)) as Value[]
      const mayHelp = error instanceof QuantError && error.code === 'E_UNSUPPORTED'
      if (!mayHelp || unknown.length === 0) throw inModel(error, node, inputs)
      const small = [...this.pending].filter(value => elementCount(staticShape(value)) <= MAX_SHAPE_ELEMENTS)
      await this.fold(new Set([...unknown, ...small]))
      try {
        outputs = this.write(node, inputs)
      } catch (again) {
        throw inModel(again, node, inputs)
      }
    }
    node.outputs.forEach((output, i) => {
      const value = outputs[i]
      if (output && value) this.values.set(output, this.toFloat32(value))
    })
  }

  /** Computes pending values; they become initializers in place. */
  private async fold(values: ReadonlySet<Value>): Promise<void> {
    if (values.size === 0) return
    const graph = extract(this.g.graph, [], [...values])
    this.budget.charge(graph)
    const tensors = await this.options.evaluate(graph)
    for (const value of values) {
      value.tensor = tensors[value.name]!
      value.producer = undefined
      this.pending.delete(value)
      this.g.graph.initializers.push(value)
    }
  }

  /** Folds what the remaining nodes read, and drops everything no output needs. */
  async finish(outputs: readonly Value[]): Promise<WorkingCopy> {
    const { graph } = this.g
    graph.outputs = outputs.map(output => {
      const value = this.lookup(output)!
      if (this.isConstant(value))
        throw new QuantError('E_UNSUPPORTED', `output "${output.name}" does not depend on the model's inputs`)
      return value
    })
    const live = extract(graph, graph.inputs, graph.outputs)
    const read = live.nodes.flatMap(node =>
      node.outputs.some(value => value && this.pending.has(value)) ? [] : node.inputs,
    )
    await this.fold(new Set(read.filter(value => value !== undefined && this.pending.has(value)) as Value[]))
    graph.nodes = extract(graph, graph.inputs, graph.outputs).nodes
    const passed = withoutIdentities(graph)
    const used = new Set(graph.nodes.flatMap(node => node.inputs))
    const shared = shareEqual(graph.initializers.filter(value => used.has(value)))
    for (const node of graph.nodes) node.inputs = node.inputs.map(input => input && (shared.get(input) ?? input))
    graph.initializers = graph.initializers.filter(value => used.has(value) && !shared.has(value))
    for (const [value, working] of this.values)
      this.values.set(value, shared.get(working) ?? passed.get(working) ?? working)
    return { graph, values: this.values }
  }
}

/**
 * Makes the working copy of `model` for the shapes given. Weights stay on disk, in their own type and orientation,
 * behind Transpose, Reshape and Cast nodes.
 * @throws E_UNSUPPORTED naming the node whose shape depends on data or whose op has no rule; E_NOT_ONNX naming one that is not as its
 * op demands; E_TOO_LARGE for shapes and constants no decoder has; E_INPUTS.
 */
export async function normalize(model: Model, options: NormalizeOptions): Promise<WorkingCopy> {
  const wanted = model.graph.outputs.filter(output => options.outputs.includes(output.name))
  const copy = new Copier(model, options)
  const inputs = model.graph.inputs.filter(input => !input.tensor)
  await copy.addGraph(model.graph, inputs, wanted)
  return copy.finish(wanted)
}
