/** @file Makes the user's graph a float16 model, in place: types, constants, and Casts where float16 and float32 meet. */

import { dtypeNumber } from '../../graph/dtype.ts'
import { GraphWriter } from '../../graph/graph-writer.ts'
import { type Graph, type Model, type Node, Value } from '../../graph/ir.ts'
import { FLOAT16_MAX, narrowed } from '../../kernels/float16.ts'
import { chooseTypes, type ChosenTypes, float32Constant, type Precision } from './choose-types.ts'

/**
 * Converts float32 values to float16, in place. Nodes and values stay the objects they were; weights stay on disk. Inputs and outputs
 * become float16 as well.
 *
 * The sums inside fused norms are the kernels' own. Norms made of primitives, Softmax, angles, and masks with numbers beyond float16
 * stay float32 between Casts. Loop, Scan, functions of the file and ops without a row in op-rules.ts read and give float32.
 * @returns the Casts behind constants that are read in both types: value after the Cast -> constant.
 */
export function toFloat16(model: Model): ReadonlyMap<Value, Value> {
  const conversion = new Conversion(model, chooseTypes(model))
  return conversion.write()
}

class Conversion {
  private readonly writer: GraphWriter
  private readonly chosen: ChosenTypes
  private readonly types: Map<Value, Precision>
  private readonly casts = new Map<Value, Map<Precision, Value>>()
  /** Nodes to write behind a node, or at the start of a graph. */
  private readonly behind = new Map<Node | Graph, Node[]>()
  private readonly homes = new Map<Value, Graph>()

  constructor(model: Model, chosen: ChosenTypes) {
    this.writer = new GraphWriter(model)
    this.chosen = chosen
    this.types = new Map(chosen.values)
  }

  write(): ReadonlyMap<Value, Value> {
    const { graph } = this.writer
    const constants = [...this.types.keys()].filter(value => float32Constant(value))
    for (const [value, type] of this.types) retype(value, type)
    this.typeOutputs(graph)
    this.visit(graph)
    this.place(graph)
    return new Map(constants.flatMap(value => [...(this.casts.get(value)?.values() ?? [])].map(cast => [cast, value])))
  }

  /** Gives the outputs of the whole graph the type float16 under their names; float32 readers keep the value before the Cast. */
  private typeOutputs(graph: Graph): void {
    for (const value of new Set(graph.outputs)) {
      const { producer } = value
      if (!producer || this.types.get(value) !== 'float32') continue
      const raw = new Value(this.writer.fresh(`${value.name}_float32`), 'float32', value.shape)
      producer.outputs = producer.outputs.map(output => (output === value ? raw : output))
      raw.producer = producer
      const node = this.cast(raw, 'float16', this.chosen.wide.has(value))
      const cast = node.at(-1)!
      cast.outputs = [value]
      value.producer = cast
      value.dtype = 'float16'
      this.types.set(value, 'float16').set(raw, 'float32')
      this.casts.set(value, new Map([['float32', raw]]))
      this.behind.set(producer, [...(this.behind.get(producer) ?? []), ...node])
    }
  }

  private visit(graph: Graph): void {
    for (const value of [...graph.inputs, ...graph.initializers]) this.homes.set(value, graph)
    for (const node of graph.nodes) {
      const type = this.chosen.nodes.get(node)
      if (type) node.inputs = node.inputs.map(input => input && this.typed(input, type))
      this.retypeCast(node)
      for (const body of node.subgraphs()) {
        this.visit(body)
        body.outputs = body.outputs.map((value, i) => {
          const wanted = node.kind === 'If' ? this.types.get(node.outputs[i]!) : 'float32'
          return this.typed(value, wanted ?? 'float32')
        })
      }
    }
  }

  /** A Cast to float32 of the source gives the type that was chosen for its output. */
  private retypeCast({ kind, outputs: [output], attributes }: Node): void {
    const to = kind === 'Cast' && output ? this.types.get(output) : undefined
    if (to) attributes.set('to', { type: 'int', value: dtypeNumber(to) })
  }

  /** The value in `type`, by one Cast for all its readers. Values that are no floats stay. */
  private typed(value: Value, type: Precision): Value {
    const own = this.types.get(value)
    if (own === undefined || own === type) return value
    const known = this.casts.get(value)?.get(type)
    if (known) return known
    const nodes = this.cast(value, type, this.chosen.wide.has(value))
    const result = nodes.at(-1)!.outputs[0]!
    const place = value.producer ?? this.homes.get(value)!
    this.behind.set(place, [...(this.behind.get(place) ?? []), ...nodes])
    this.casts.set(value, new Map([[type, result]]))
    return result
  }

  /** Nodes that cast a value. Numbers of a wide one become the greatest that float16 has: an infinite mask can make NaN. */
  private cast(value: Value, type: Precision, isWide: boolean): Node[] {
    const g = this.writer.at({ values: value.name, nodes: value.name })
    const limited = (x: Value) =>
      g.op(
        'Min',
        [g.op('Max', [x, g.scalar(-FLOAT16_MAX)], {}, { role: 'from' }), g.scalar(FLOAT16_MAX)],
        {},
        { role: 'to' },
      )
    const cast = g.cast(type === 'float16' && isWide ? limited(value) : value, type)
    cast.shape = value.shape
    return this.writer.take()
  }

  private place(graph: Graph): void {
    graph.nodes = [
      ...(this.behind.get(graph) ?? []),
      ...graph.nodes.flatMap(node => {
        for (const body of node.subgraphs()) this.place(body)
        return [node, ...(this.behind.get(node) ?? [])]
      }),
    ]
  }
}

/** Sets the type of a value, and the numbers of a constant. */
function retype(value: Value, type: Precision): void {
  const { producer } = value
  const tensor = type === 'float16' ? float32Constant(value) : undefined
  if (tensor && value.tensor) value.tensor = narrowed(tensor)
  else if (tensor && producer) producer.attributes = new Map([['value', { type: 'tensor', value: narrowed(tensor) }]])
  value.dtype = type
}
