/**
 * @file An ONNX model as plain objects: values know their producer, nodes their inputs and outputs.
 * Protobuf stays in onnx-file/. No arithmetic.
 */

import { internalError } from '../errors.ts'
import type { DType } from './dtype.ts'
import type { Tensor } from './tensor.ts'

/** A dimension: a size, a name given by the exporter ("batch_size"), or unknown. */
export type Dim = number | string | undefined

/** One edge of the graph: an input, an initializer (`tensor` is set) or an output of `producer`. */
export class Value {
  name: string
  dtype: DType | undefined
  shape: readonly Dim[] | undefined
  producer: Node | undefined
  /** Set for constants only. */
  tensor: Tensor | undefined
  /** Other fields of this value in the file, written back unchanged. Only decode.ts and encode.ts look inside. */
  source: unknown

  constructor(name: string, dtype?: DType, shape?: readonly Dim[], tensor?: Tensor) {
    this.name = name
    this.dtype = dtype
    this.shape = shape
    this.tensor = tensor
  }
}

/**
 * An attribute, by ONNX type. `reference` names an attribute of the node that calls the function; `opaque` is not interpreted and is
 * written back as it was read.
 */
export type Attribute = (
  | { readonly type: 'int' | 'float'; readonly value: number }
  | { readonly type: 'ints' | 'floats'; readonly value: readonly number[] }
  | { readonly type: 'string' | 'reference'; readonly value: string }
  | { readonly type: 'strings'; readonly value: readonly string[] }
  | { readonly type: 'tensor'; readonly value: Tensor }
  | { readonly type: 'graph'; readonly value: Graph }
  | { readonly type: 'opaque'; readonly value?: undefined }
) & {
  /** The attribute in the file, written back when present: keeps 64-bit integers and invalid UTF-8 exact. */
  readonly source?: unknown
}

/** An operation. Absent optional inputs and outputs are `undefined` entries. */
export class Node {
  opType: string
  /** '' is ai.onnx. */
  domain: string
  name: string
  inputs: (Value | undefined)[]
  outputs: (Value | undefined)[]
  attributes: Map<string, Attribute>
  /** In a working copy: the node of the user's graph this one was made from. */
  origin: Node | undefined
  /** Other fields of this node in the file (doc_string, metadata_props, ...), written back unchanged. */
  source: unknown

  constructor(
    opType: string,
    inputs: (Value | undefined)[],
    outputs: (Value | undefined)[],
    attributes: Map<string, Attribute> = new Map(),
    domain = '',
    name = '',
  ) {
    this.opType = opType
    this.inputs = inputs
    this.outputs = outputs
    this.attributes = attributes
    this.domain = domain
    this.name = name
    for (const output of outputs) if (output) output.producer = this
  }

  /** 'com.microsoft.MatMulNBits', or plain 'MatMul' for the default domain. */
  get kind(): string {
    return this.domain === '' || this.domain === 'ai.onnx' ? this.opType : `${this.domain}.${this.opType}`
  }

  /** Integer attribute, or `fallback` (ONNX's default) when absent. */
  int(name: string, fallback: number): number {
    const attribute = this.attributes.get(name)
    return attribute?.type === 'int' ? attribute.value : fallback
  }

  float(name: string, fallback: number): number {
    const attribute = this.attributes.get(name)
    return attribute?.type === 'float' ? attribute.value : fallback
  }

  ints(name: string): readonly number[] | undefined {
    const attribute = this.attributes.get(name)
    return attribute?.type === 'ints' ? attribute.value : undefined
  }

  string(name: string, fallback: string): string {
    const attribute = this.attributes.get(name)
    return attribute?.type === 'string' ? attribute.value : fallback
  }

  /** Graph attributes: bodies of If, Loop, Scan. */
  subgraphs(): Graph[] {
    return [...this.attributes.values()].flatMap(attribute => (attribute.type === 'graph' ? [attribute.value] : []))
  }
}

/** A graph; a subgraph's nodes may also read values of the graphs around it. */
export class Graph {
  name: string
  inputs: Value[] = []
  outputs: Value[] = []
  /** Constants of the graph, in file order. */
  initializers: Value[] = []
  /** In topological order once verified; files are nearly always so. */
  nodes: Node[] = []
  source: unknown

  constructor(name = 'graph') {
    this.name = name
  }
}

export interface OpsetImport {
  readonly domain: string
  readonly version: number
}

/** A function of the file (ModelProto.functions): an operator made of others. Written back as it was read, but for its opset. */
export interface LocalFunction {
  /** Its inputs and outputs correspond to those of the calling nodes. */
  readonly body: Graph
  /** Values of attributes that the calling node leaves out. */
  readonly defaults: ReadonlyMap<string, Attribute>
  /** Opset of the body's nodes. */
  readonly opset: number
  /** The function in the file. Only decode.ts and encode.ts look inside. */
  readonly source?: unknown
}

/** A whole file. */
export interface Model {
  graph: Graph
  irVersion: number
  opsetImports: OpsetImport[]
  /** Functions, by the kind of the nodes that call them. */
  functions?: ReadonlyMap<string, LocalFunction>
  producerName: string
  producerVersion: string
  /** ModelProto.metadata_props. */
  metadata: Map<string, string>
  /** Absolute path of its file; undefined for graphs we built. */
  path: string | undefined
  source: unknown
}

/** Opset of every program we generate: axes are inputs everywhere, ScatterND can add, blocked QuantizeLinear exists. */
export const PROGRAM_OPSET: number = 21

/** A fresh model around `graph`, at the opset our own programs are written in. */
export function newModel(graph: Graph, opset: number = PROGRAM_OPSET): Model {
  return {
    graph,
    irVersion: 10,
    opsetImports: [
      { domain: '', version: opset },
      { domain: 'com.microsoft', version: 1 },
    ],
    producerName: 'omniquant',
    producerVersion: '',
    metadata: new Map(),
    path: undefined,
    source: undefined,
  }
}

/** Version of ai.onnx that a model is written in. */
export const opsetOf = ({ opsetImports }: Pick<Model, 'opsetImports'>): number =>
  opsetImports.find(({ domain }) => domain === '' || domain === 'ai.onnx')?.version ?? 1

/** Readers of each value, in node order, subgraphs included; a graph output does not count as a reader. */
export function consumersOf(graph: Graph): Map<Value, Node[]> {
  const consumers = new Map<Value, Node[]>()
  const visit = (current: Graph) => {
    for (const node of current.nodes) {
      for (const input of node.inputs) {
        if (!input) continue
        const list = consumers.get(input)
        if (list) list.push(node)
        else consumers.set(input, [node])
      }
      for (const body of node.subgraphs()) visit(body)
    }
  }
  visit(graph)
  return consumers
}

/**
 * Every tensor of a graph: initializers and attributes of nodes, bodies included. Of a model also those of its functions, their
 * default attributes included.
 */
export function* tensorsOf(root: Graph | Model): Iterable<Tensor> {
  if (!(root instanceof Graph)) {
    yield* tensorsOf(root.graph)
    for (const { body, defaults } of root.functions?.values() ?? []) {
      yield* tensorsOf(body)
      yield* attributeTensors(defaults.values())
    }
    return
  }
  for (const { tensor } of root.initializers) if (tensor) yield tensor
  for (const node of root.nodes) yield* attributeTensors(node.attributes.values())
}

function* attributeTensors(attributes: Iterable<Attribute>): Iterable<Tensor> {
  for (const attribute of attributes) {
    if (attribute.type === 'tensor') yield attribute.value
    else if (attribute.type === 'graph') yield* tensorsOf(attribute.value)
  }
}

/** Makes the node that computes `made` compute `output` in its place; `output` keeps its name and its readers. */
export function replaceOutput(made: Value, output: Value): void {
  const { producer } = made
  if (!producer) throw internalError(`no node computes "${made.name}"`)
  producer.outputs = producer.outputs.map(each => (each === made ? output : each))
  output.producer = producer
}
