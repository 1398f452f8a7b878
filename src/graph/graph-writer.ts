/** @file Adds nodes and constants to the user's graph, where shapes may be unknown, and drops what they leave unread. Knows no quantization. */

import { Builder } from './builder.ts'
import { consumersOf, type Graph, type Model, type Node, Value } from './ir.ts'
import { Names } from './names.ts'
import { MadeOnce, type OpOptions } from './target.ts'
import type { Tensor } from './tensor.ts'

/** Names of what is written for one thing: `<values>_<role>` and `<nodes>_<role>`; nodes stay without a name where `nodes` is ''. */
export interface Stem {
  readonly values: string
  readonly nodes: string
}

/** One change of the user's graph. Written nodes collect in `take`; the caller puts them where they belong. */
export class GraphWriter {
  readonly graph: Graph
  private readonly model: Model
  private readonly readBefore: ReadonlySet<Value>
  private readonly names: Names
  /** Apart from the names of values. onnxruntime refuses two nodes of one name. */
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

  /** A name no value of the graph has. */
  fresh(stem: string): string {
    return this.names.fresh(stem)
  }

  /** Version of ai.onnx the model is written in. */
  get opset(): number {
    return this.model.opsetImports.find(({ domain }) => domain === '' || domain === 'ai.onnx')?.version ?? 1
  }

  /** Adds an initializer. */
  constant(stem: string, tensor: Tensor): Value {
    const value = new Value(this.fresh(stem), tensor.dtype, tensor.dims, tensor)
    this.graph.initializers.push(value)
    return value
  }

  /** Result of `make` for `key`, made once. */
  once(key: string, make: (key: string) => Value): Value {
    return this.shared.once(key, make)
  }

  /** A builder of nodes that are named after `stem` and the role of their output. Nodes collect here, for `take`. */
  at(stem: Stem): Builder {
    const named = (prefix: string, opType: string, { role, name }: OpOptions) => `${prefix}_${role ?? name ?? opType}`
    return new Builder(this.graph, this.names, {
      opset: this.opset,
      valueName: (opType, options) => this.fresh(named(stem.values, opType, options)),
      nodeName: (opType, options) => stem.nodes && this.nodeNames.fresh(named(stem.nodes, opType, options)),
      constantName: name => this.fresh(`${stem.values}_${name}`),
      sharedName: key => this.fresh(key),
      append: (node, dtype) => this.append(node, dtype),
      once: (key, make) => this.once(key, make),
    })
  }

  private append(node: Node, dtype = node.inputs[0]?.dtype): void {
    for (const output of node.outputs) if (output) output.dtype = dtype
    this.written.push(node)
    const { domain } = node
    if (domain !== '' && !this.model.opsetImports.some(known => known.domain === domain))
      this.model.opsetImports.push({ domain, version: 1 })
  }

  /** The nodes written since the last call. */
  take(): Node[] {
    const nodes = this.written
    this.written = []
    return nodes
  }

  /** What the graph and the bodies in it give back. */
  outputValues(): Set<Value> {
    return new Set(graphsOf(this.graph).flatMap(({ outputs }) => outputs))
  }

  /** Writes nodes that read constants only where every branch of the model sees them. */
  ahead<T>(write: () => T): T {
    const before = this.take()
    const result = write()
    this.first.push(...this.take())
    this.written = before
    return result
  }

  /** Rewrites the nodes of the graph and of the bodies in it, in order; what was written `ahead` goes first. */
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

  /** Drops what had readers when the writer was made and has none now: weights, and the nodes that only rearranged them. */
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
        // Initializers may be listed as inputs too (a habit of IR 3): without their tensor they would become required.
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
