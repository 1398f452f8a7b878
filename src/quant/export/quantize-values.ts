/** @file Quantizes values of the user's graph where they are computed: queries, keys and values of attention. */

import { internalError } from '../../errors.ts'
import type { Builder } from '../../graph/builder.ts'
import { floatTypeOf } from '../../graph/float-type.ts'
import { GraphWriter } from '../../graph/graph-writer.ts'
import { consumersOf, type Model, type Node, replaceOutput, Value } from '../../graph/ir.ts'
import { emitProduct } from '../../kernels/steps.ts'
import type { WrittenQuantizer } from '../../kernels/static-range.ts'
import type { ClippedQuantizer } from '../../kernels/tokens.ts'
import type { ExportOptions, Format } from '../terms/options.ts'
import { writeRange } from './quantize-linear.ts'
import { requireOpset, writeQuantizedRows } from './quantize-rows.ts'

export interface QuantizedValue {
  /** A value of the user's graph, [.., C]. */
  readonly value: Value
  /** Neighbours along the last axis that share a scale; divides C. With a fixed range all numbers do. */
  readonly group: number
  readonly quantizer: WrittenQuantizer
  /** C and the number of dimensions; needed where the file leaves them out. */
  readonly channels?: number | undefined
  readonly rank?: number | undefined
  /** True quantizes outputs of the graph (or body) as well; by default only readers within the graph get the quantized value. */
  readonly outputs?: boolean | undefined
}

/**
 * Quantizes and dequantizes values for all their readers, in place. The arithmetic is float32, whatever the model's type.
 * @throws E_UNSUPPORTED when the model's opset is below 11.
 */
export function quantizeValues(
  model: Model,
  values: readonly QuantizedValue[],
  { format }: Pick<ExportOptions, 'format'>,
): void {
  if (values.length === 0) return
  const writer = new GraphWriter(model)
  requireOpset(writer)
  const readers = consumersOf(writer.graph)
  const shown = writer.outputValues()
  const behind = new Map<Node | undefined, Node[]>()
  for (const quantized of values) {
    const { value, outputs = false } = quantized
    const result = writeQuantizedValue(writer, quantized, format)
    const nodes = writer.take()
    const { producer } = value
    if (outputs && shown.has(value)) takeName(writer, value, result, nodes)
    else
      for (const reader of readers.get(value) ?? [])
        reader.inputs = reader.inputs.map(input => (input === value ? result : input))
    behind.set(producer, [...(behind.get(producer) ?? []), ...nodes])
  }
  writer.rewriteNodes(node => [node, ...(behind.get(node) ?? [])])
  writer.graph.nodes.unshift(...(behind.get(undefined) ?? []))
}

/** The value quantized and dequantized, in its own type. */
function writeQuantizedValue(writer: GraphWriter, quantized: QuantizedValue, format: Format): Value {
  const { value, quantizer } = quantized
  const g = writer.at({ values: value.name, nodes: value.name })
  const dtype = floatTypeOf(value)
  const float = dtype === 'float32' ? value : g.typed(value, 'float32')
  const result =
    quantizer.kind === 'static' ? writeRange(g, float, quantizer, format) : writeGroups(g, float, quantizer, quantized)
  result.shape = value.shape
  return g.typed(result, dtype)
}

/** x, the value in float32, quantized and dequantized per group. */
function writeGroups(
  g: Builder,
  x: Value,
  quantizer: ClippedQuantizer,
  { value, group, channels, rank }: QuantizedValue,
): Value {
  const last = value.shape?.at(-1)
  const size = typeof last === 'number' ? last : channels
  if (size === undefined || size % group !== 0)
    throw internalError(`the ${size ?? 'unknown number of'} channels of "${value.name}" are not groups of ${group}`)
  const dims = value.shape?.length ?? rank
  if (size !== group && dims === undefined)
    throw internalError(`the number of dimensions of "${value.name}" is not known`)
  // A zero keeps a dimension as it is, so that shape inference still finds the last one.
  const kept = Array<number>((dims ?? 1) - 1).fill(0)
  const rows = size === group ? x : g.op('Reshape', [x, g.ints([...kept, size / group, group])], {}, { role: 'groups' })
  const result = emitProduct(g, writeQuantizedRows(g, rows, quantizer))
  return size === group ? result : g.op('Reshape', [result, g.ints([...kept, size])], {}, { role: 'ungrouped' })
}

/** Makes `result` take over the name and the readers of `value`; only `nodes` read the old value, under a new name. */
function takeName(writer: GraphWriter, value: Value, result: Value, nodes: readonly Node[]): void {
  const { producer } = value
  if (!producer)
    throw internalError(`"${value.name}" is an input of the graph and cannot become quantized as an output`)
  const raw = new Value(writer.fresh(`${value.name}_float`), value.dtype, value.shape)
  producer.outputs = producer.outputs.map(output => (output === value ? raw : output))
  raw.producer = producer
  for (const node of nodes) node.inputs = node.inputs.map(input => (input === value ? raw : input))
  replaceOutput(result, value)
}
