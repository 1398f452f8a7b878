/** @file The state of a working copy that is being made: its graph so far, and facts about its values. Applies fact passes to new nodes. */

import { QuantError } from '../../errors.ts'
import { isFloat } from '../dtype.ts'
import { extract } from '../extract.ts'
import { Graph, type LocalFunction, type Model, type Node, opsetOf, type Value } from '../ir.ts'
import { RewriteBuilder } from '../rewrites/rewrite-builder.ts'
import { elementCount, type Tensor } from '../tensor.ts'
import { Calls } from './calls.ts'
import { FoldBudget } from './fold-budget.ts'
import type { CopyState } from './pass.ts'
import { FACT_PASSES } from './passes.ts'

export interface NormalizeOptions {
  /** Tensor for every graph input that is fixed (masks, positions, an empty cache), by name. */
  readonly fixedInputs: ReadonlyMap<string, Tensor>
  /** Shape of every graph input that stays an input, by name. */
  readonly shapes: ReadonlyMap<string, readonly number[]>
  /** Names of the outputs to keep. Nodes that only other outputs need are dropped. */
  readonly outputs: readonly string[]
  /** Computes the outputs of a graph without inputs. */
  readonly evaluate: (graph: Graph) => Promise<Record<string, Tensor>>
}

/** Least elements of a 2-D float constant that counts as a weight: it stays where it is, and is not folded. */
const MIN_WEIGHT_ELEMENTS = 1024

export class CopyWriter implements CopyState {
  readonly g: RewriteBuilder = new RewriteBuilder(new Graph('working copy'))
  readonly values: Map<Value, Value> = new Map()
  readonly pending: Set<Value> = new Set()
  readonly weights: Set<Value> = new Set()
  readonly functions: ReadonlyMap<string, LocalFunction>
  readonly calls: Calls
  opset: number
  private readonly evaluate: NormalizeOptions['evaluate']
  private readonly budget: FoldBudget

  constructor(model: Model, options: NormalizeOptions) {
    this.functions = model.functions ?? new Map<string, never>()
    this.calls = new Calls(this.functions)
    this.opset = opsetOf(model)
    this.evaluate = options.evaluate
    this.budget = new FoldBudget(model, options)
    for (const input of model.graph.inputs) {
      const fixed = options.fixedInputs.get(input.name)
      const shape = options.shapes.get(input.name)
      if (fixed) this.values.set(input, this.constant(input.name, fixed))
      else if (shape && input.dtype) this.values.set(input, this.g.input(input.name, input.dtype, shape))
    }
  }

  /** A new constant, as float32 if it is of another float type. */
  constant(name: string, tensor: Tensor): Value {
    const [value] = this.write(() => [this.g.initializer(name, tensor)])
    return this.toFloat32(value!)
  }

  toFloat32(value: Value): Value {
    if (value.dtype === undefined || value.dtype === 'float32' || !isFloat(value.dtype)) return value
    return this.write(() => [this.g.cast(value, 'float32')])[0]!
  }

  lookup(value: Value | undefined): Value | undefined {
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

  isConstant(value: Value | undefined): boolean {
    return value === undefined || value.tensor !== undefined || this.pending.has(value) || this.weights.has(value)
  }

  /** Runs `make`, and notes facts about the nodes and constants that it wrote. If either throws, the nodes are taken back. */
  write<T>(make: () => T, origin?: Node): T {
    const { graph } = this.g
    const [firstNode, firstConstant] = [graph.nodes.length, graph.initializers.length]
    return this.g.attempt(() => {
      const result = make()
      for (const value of graph.initializers.slice(firstConstant)) if (isWeight(value)) this.weights.add(value)
      const written = graph.nodes.slice(firstNode)
      if (origin) for (const node of written) node.origin = origin
      for (const pass of FACT_PASSES) for (const node of written) pass.note(this, node)
      return result
    })
  }

  async fold(values: ReadonlySet<Value>): Promise<void> {
    if (values.size === 0) return
    const graph = extract(this.g.graph, [], [...values])
    this.budget.charge(graph)
    const tensors = await this.evaluate(graph)
    for (const value of values) {
      value.tensor = tensors[value.name]!
      value.producer = undefined
      this.pending.delete(value)
      this.g.graph.initializers.push(value)
    }
  }
}

function isWeight({ tensor }: Value): boolean {
  return (
    tensor !== undefined &&
    isFloat(tensor.dtype) &&
    tensor.dims.length === 2 &&
    elementCount(tensor.dims) >= MIN_WEIGHT_ELEMENTS
  )
}
