/** @file Adds nodes and constants to the user's graph, where shapes may be unknown, and drops what they leave unread. Knows no quantization. */

import { internalError, QuantError } from '../errors.ts'
import { type DType, dtypeFromNumber, dtypeNumber, type FloatType, isFloat } from './dtype.ts'
import { type Attribute, consumersOf, type Graph, type Model, Node, Value } from './ir.ts'
import { storedTensor } from './stored-weight.ts'
import { int64Tensor, type Tensor, tensorOf } from './tensor.ts'

/** BitShift, Round, and Clip and Round on any shape: what quantizing activations is written with. */
const MIN_OPSET = 11

/** From here on the axes of ReduceMax and ReduceMin are an input. */
const AXES_AS_INPUT = 18

/** What to call new things: the stem of value names, and of node names ('' leaves nodes unnamed, as the file does). */
export interface Stem {
  readonly values: string
  readonly nodes: string
}

export interface WrittenOp {
  readonly attributes?: Readonly<Record<string, AttributeInput>>
  readonly domain?: string
  /** Type of the output; that of the first input when absent. */
  readonly dtype?: DType
}

/** INT, INTS or STRING. */
type AttributeInput = number | readonly number[] | string

function attributeOf(value: AttributeInput): Attribute {
  if (typeof value === 'number') return { type: 'int', value }
  return typeof value === 'string' ? { type: 'string', value } : { type: 'ints', value }
}

/** One change of the user's graph. Written nodes collect in `take`; the caller puts them where they belong. */
export class GraphWriter {
  readonly graph: Graph
  private readonly model: Model
  private readonly readBefore: ReadonlySet<Value>
  private readonly taken = new Set<string>()
  /** onnxruntime refuses two nodes of one name; values are named apart from them. */
  private readonly takenByNodes = new Set<string>()
  private readonly shared = new Map<string, Value>()
  private written: Node[] = []
  private readonly first: Node[] = []

  constructor(model: Model) {
    this.model = model
    this.graph = model.graph
    this.readBefore = readValues(model.graph)
    this.collectNames(model.graph)
  }

  private collectNames(graph: Graph): void {
    for (const { name } of [...graph.inputs, ...graph.initializers]) this.taken.add(name)
    for (const node of graph.nodes) {
      this.takenByNodes.add(node.name)
      for (const output of node.outputs) if (output) this.taken.add(output.name)
      for (const body of node.subgraphs()) this.collectNames(body)
    }
  }

  /** A name no value of the graph has. */
  fresh(stem: string, taken: Set<string> = this.taken): string {
    let name = stem
    for (let i = 1; taken.has(name); i++) name = `${stem}_${i}`
    taken.add(name)
    return name
  }

  /** @throws E_UNSUPPORTED when the model's opset lacks the operators activations are quantized with. */
  requireOpset(): void {
    if (this.opset >= MIN_OPSET) return
    throw new QuantError(
      'E_UNSUPPORTED',
      `the model is written in opset ${this.opset}: quantized activations need ${MIN_OPSET}`,
      'Export it again with a newer opset, or convert it with onnx.version_converter.',
    )
  }

  /** Version of ai.onnx the model is written in. */
  get opset(): number {
    return this.model.opsetImports.find(({ domain }) => domain === '' || domain === 'ai.onnx')?.version ?? 1
  }

  /** A new initializer. */
  constant(stem: string, tensor: Tensor): Value {
    const value = new Value(this.fresh(stem), tensor.dtype, tensor.dims, tensor)
    this.graph.initializers.push(value)
    return value
  }

  /** A scalar; the same one for the same number. */
  scalar(value: number, dtype: 'float32' | 'uint8' | 'int32' = 'float32'): Value {
    const elements = { float32: Float32Array, uint8: Uint8Array, int32: Int32Array }[dtype].of(value)
    return this.once(`constant_${dtype}_${value}`, name => this.constant(name, tensorOf(dtype, [], elements)))
  }

  /** A 1-D int64 constant; the same one for the same numbers. */
  ints(...values: number[]): Value {
    return this.once(`constant_ints_${values.join('_')}`, name =>
      this.constant(name, int64Tensor([values.length], values)),
    )
  }

  /** What `make` gives for `key`, made once. */
  once(key: string, make: (key: string) => Value): Value {
    const known = this.shared.get(key)
    if (known) return known
    const value = make(key)
    this.shared.set(key, value)
    return value
  }

  /** Writes a node of one output, called `<stem>_<suffix>`. */
  op(stem: Stem, suffix: string, opType: string, inputs: (Value | undefined)[], how: WrittenOp = {}): Value {
    const { attributes = {}, domain = '', dtype = inputs[0]!.dtype } = how
    const output = new Value(this.fresh(`${stem.values}_${suffix}`), dtype)
    const entries = Object.entries(attributes).map(([name, value]) => [name, attributeOf(value)] as const)
    const name = stem.nodes && this.fresh(`${stem.nodes}_${suffix}`, this.takenByNodes)
    this.written.push(new Node(opType, inputs, [output], new Map(entries), domain, name))
    if (domain !== '' && !this.model.opsetImports.some(known => known.domain === domain))
      this.model.opsetImports.push({ domain, version: 1 })
    return output
  }

  /** The value as `dtype`, through a Cast unless it has that type. */
  cast(stem: Stem, value: Value, dtype: DType): Value {
    if (value.dtype === dtype) return value
    return this.op(stem, dtype, 'Cast', [value], { attributes: { to: dtypeNumber(dtype) }, dtype })
  }

  /** ReduceMax or ReduceMin over the last axis, which stays as 1. */
  reduceLast(stem: Stem, suffix: string, opType: 'ReduceMax' | 'ReduceMin', x: Value): Value {
    return this.opset >= AXES_AS_INPUT
      ? this.op(stem, suffix, opType, [x, this.ints(-1)], { attributes: { keepdims: 1 } })
      : this.op(stem, suffix, opType, [x], { attributes: { axes: [-1], keepdims: 1 } })
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

/** Makes the node that gives `made` give `output` instead, which keeps its name and readers. */
export function giveAs(made: Value, output: Value): void {
  const producer = made.producer!
  producer.outputs[producer.outputs.indexOf(made)] = output
  output.producer = producer
}

/**
 * Element type of a float value. Files need not say it of inner values: then it is that of what the value is computed from.
 * @throws E_INTERNAL when nothing tells.
 */
export function floatTypeOf(value: Value): FloatType {
  const seen = new Set<Value>()
  const stack = [value]
  for (let current = stack.pop(); current; current = stack.pop()) {
    if (seen.has(current)) continue
    seen.add(current)
    const { producer } = current
    const to = producer?.kind === 'Cast' ? producer.attributes.get('to') : undefined
    const dtype =
      current.dtype ?? storedTensor(current)?.dtype ?? (to?.type === 'int' ? dtypeFromNumber(to.value) : undefined)
    if (dtype !== undefined && isFloat(dtype)) return dtype
    // Casts say their type, and types that are not float lead nowhere (indices, masks, shapes).
    if (dtype !== undefined || !producer) continue
    const outputs = producer.subgraphs().flatMap(body => body.outputs)
    stack.push(...[...outputs, ...producer.inputs].filter(input => input !== undefined).reverse())
  }
  throw internalError(`nothing tells the type of "${value.name}"`)
}
