/** @file Changes the user's graph: adds nodes and constants, and drops those that are no longer read. Knows no quantization. */

import { Builder } from './builder.ts'
import type { DType } from './dtype.ts'
import { consumersOf, type Graph, type Model, type Node, opsetOf, Value } from './ir.ts'
import { Names } from './names.ts'
import { MadeOnce, type OpOptions } from './target.ts'
import type { Tensor } from './tensor.ts'

/** First part of new names: `<values>_<role>` and `<nodes>_<role>`. New nodes get no name where `nodes` is ''. */
export interface Stem {
  readonly values: string
  readonly nodes: string
}

/** One change of the user's graph. New nodes collect until the caller takes them and puts them in their place. */
export class GraphWriter {
  readonly graph: Graph
  private readonly model: Model
  private readonly readBefore: ReadonlySet<Value>
  private readonly names: Names
  /** Names of nodes; a value may have the same one. onnxruntime refuses two nodes of one name. */
  private readonly nodeNames: Names
  private readonly shared = new MadeOnce()
  private written: Node[] = []
  private readonly first: Node[] = []

  constructor(model: Model) {
    this.model = model
    this.graph = model.graph
    this.readBefore = readValues(model.graph)
    const graphs = graphsOf(model.graph)
    const nodes = graphs.flatMap(graph => graph.nodes)
    const values = graphs.flatMap(({ inputs, initializers }) => [...inputs, ...initializers])
    const outputs = nodes.flatMap(node => node.outputs.filter(output => output !== undefined))
    this.names = new Names([...values, ...outputs].map(({ name }) => name))
    this.nodeNames = new Names(nodes.map(({ name }) => name))
  }

  /** A name that no value of the graph has. */
  fresh(stem: string): string {
    return this.names.fresh(stem)
  }

  /** Version of ai.onnx the model is written in. */
  get opset(): number {
    return opsetOf(this.model)
  }

  /** Adds an initializer under a free name. */
  constant(stem: string, tensor: Tensor): Value {
    const value = new Value(this.fresh(stem), tensor.dtype, tensor.dims, tensor)
    this.graph.initializers.push(value)
    return value
  }

  /** Builder whose nodes and values are named after `stem` and their role; `take` returns the nodes. */
  at(stem: Stem): Builder {
    const named = (prefix: string, opType: string, { role, name }: OpOptions) => `${prefix}_${role ?? name ?? opType}`
    return new Builder(this.graph, this.names, {
      opset: this.opset,
      valueName: (opType, options) => this.fresh(named(stem.values, opType, options)),
      nodeName: (opType, options) => stem.nodes && this.nodeNames.fresh(named(stem.nodes, opType, options)),
      constantName: name => this.fresh(`${stem.values}_${name}`),
      sharedName: key => this.fresh(key),
      append: (node, dtype) => this.append(node, dtype),
      once: (key, make) => this.shared.once(key, make),
    })
  }

  private append(node: Node, dtype = node.inputs[0]?.dtype): void {
    for (const output of node.outputs) if (output) output.dtype = dtype
    this.written.push(node)
    const { domain } = node
    if (domain !== '' && !this.model.opsetImports.some(known => known.domain === domain))
      this.model.opsetImports.push({ domain, version: 1 })
  }

  /** Writes a node of the graph once more, with other inputs. @returns its result as a new value; its own output has no producer then. */
  again(node: Node, inputs: readonly (Value | undefined)[], dtype: DType | undefined): Value {
    const output = new Value(this.fresh(`${node.outputs[0]!.name}_product`))
    output.producer = node
    node.inputs = [...inputs]
    node.outputs = [output]
    this.append(node, dtype)
    return output
  }

  /** The nodes written since the last call. */
  take(): Node[] {
    const nodes = this.written
    this.written = []
    return nodes
  }

  /** Outputs of the graph and of the bodies in it. */
  outputValues(): Set<Value> {
    return new Set(graphsOf(this.graph).flatMap(({ outputs }) => outputs))
  }

  /** Puts the nodes that `write` makes first in the graph, where every branch sees them. They may read constants only. */
  ahead<T>(write: () => T): T {
    const before = this.take()
    const result = write()
    this.first.push(...this.take())
    this.written = before
    return result
  }

  /** Replaces each node of the graph and of the bodies in it, in order. Nodes written `ahead` go first. */
  rewriteNodes(rewrite: (node: Node, graph: Graph) => Node[]): void {
    const visit = (graph: Graph) => {
      graph.nodes = graph.nodes.flatMap(node => {
        node.subgraphs().forEach(visit)
        return rewrite(node, graph)
      })
    }
    visit(this.graph)
    this.graph.nodes.unshift(...this.first.splice(0))
  }

  /** Drops values that had readers when the writer was made and have none now: old weights, and nodes that rearranged them. */
  dropOrphans(): void {
    const graphs = graphsOf(this.graph)
    for (let dropped = true; dropped;) {
      const read = readValues(this.graph)
      const orphan = (value: Value | undefined) =>
        value === undefined || (this.readBefore.has(value) && !read.has(value))
      dropped = false
      for (const graph of graphs) {
        const nodes = graph.nodes.filter(node => !node.outputs.every(orphan))
        dropped ||= nodes.length < graph.nodes.length
        const dead = new Set(graph.initializers.filter(orphan))
        graph.nodes = nodes
        graph.initializers = graph.initializers.filter(value => !dead.has(value))
        // IR 3 lists initializers as inputs too. Without its tensor such an input would become required.
        graph.inputs = graph.inputs.filter(value => !dead.has(value))
      }
    }
  }
}

/** A graph and the bodies in it. */
function graphsOf(graph: Graph): Graph[] {
  return [graph, ...graph.nodes.flatMap(node => node.subgraphs().flatMap(graphsOf))]
}

const readValues = (graph: Graph): Set<Value> =>
  new Set([...consumersOf(graph).keys(), ...graphsOf(graph).flatMap(({ outputs }) => outputs)])
