/** @file Plain objects -> protobuf messages: the outward half of the edge of the file format. Writes no files. */

import { internalError } from '../../errors.ts'
import { isFileRange } from '../../files/file-range.ts'
import { type DType, dtypeNumber } from '../dtype.ts'
import type { Attribute, Dim, Graph, Model, Node, Value } from '../ir.ts'
import type { Tensor } from '../tensor.ts'
import { onnx, type Onnx, setUnknownFields, unknownFields } from './onnx-proto.ts'

/** A range of a data file, named relative to the model. */
interface DataLocation {
  readonly location: string
  readonly offset: number
  readonly length: number
}

/** A record in place of the bytes, which layout.ts replaces by the bytes themselves. */
interface StandIn {
  readonly standIn: Uint8Array
}

/** Place of a tensor's bytes: in the message (undefined), in a data file, or inserted later. */
type Placement = DataLocation | StandIn | undefined

export type Place = (tensor: Tensor) => Placement

/** Places all tensors inline; only for models whose tensors are in memory. */
const inline: Place = () => undefined

const { AttributeType } = onnx.AttributeProto

/** A message of `fields` that keeps all other fields of `source`, the message it was decoded from, if any. */
export function derive<T extends object>(source: unknown, fields: T): T {
  if (source === undefined) return fields
  const message = { ...(source as object), ...fields }
  setUnknownFields(message, unknownFields(source as object))
  return message
}

function encodeTensor(tensor: Tensor, name: string | undefined, place: Place = inline): Onnx.ITensorProto {
  // Values are written as raw data below: typed fields of the source must not stay beside them.
  const { source } = tensor
  const { docString } = (source ?? {}) as Onnx.ITensorProto
  const message: Onnx.ITensorProto = { dims: [...tensor.dims], dataType: dtypeNumber(tensor.dtype) }
  if (name !== undefined) message.name = name
  if (docString) message.docString = docString
  if (source) setUnknownFields(message, unknownFields(source as object))
  if (tensor.strings) {
    message.stringData = [...tensor.strings]
    return message
  }
  const placement = place(tensor)
  if (placement === undefined) {
    if (isFileRange(tensor.data)) throw internalError(`tensor "${name ?? ''}" is still on disk: it cannot go inline`)
    message.rawData = tensor.data
  } else if ('standIn' in placement) {
    const rest = unknownFields(message) ?? new Uint8Array(0)
    setUnknownFields(message, new Uint8Array(Buffer.concat([rest, placement.standIn])))
  } else {
    const { location, offset, length } = placement
    message.dataLocation = onnx.TensorProto.DataLocation.EXTERNAL
    message.externalData = Object.entries({ location, offset, length }).map(([key, value]) => ({
      key,
      value: String(value),
    }))
  }
  return message
}

function encodeAttribute(name: string, attribute: Attribute, place: Place): Onnx.IAttributeProto {
  if (attribute.source && attribute.type !== 'graph' && attribute.type !== 'tensor')
    return attribute.source as Onnx.IAttributeProto
  const base = (type: number, fields: Onnx.IAttributeProto) => derive(attribute.source, { name, type, ...fields })
  switch (attribute.type) {
    case 'int':
      return base(AttributeType.INT, { i: attribute.value })
    case 'float':
      return base(AttributeType.FLOAT, { f: attribute.value })
    case 'ints':
      return base(AttributeType.INTS, { ints: [...attribute.value] })
    case 'floats':
      return base(AttributeType.FLOATS, { floats: [...attribute.value] })
    case 'string':
      return base(AttributeType.STRING, { s: Buffer.from(attribute.value) })
    case 'strings':
      return base(AttributeType.STRINGS, { strings: attribute.value.map(text => Buffer.from(text)) })
    case 'tensor': {
      const source = (attribute.source as Onnx.IAttributeProto | undefined)?.t
      return base(AttributeType.TENSOR, {
        t: encodeTensor(attribute.value, source?.name ?? undefined, place),
      })
    }
    case 'graph':
      return base(AttributeType.GRAPH, { g: encodeGraph(attribute.value, place) })
    case 'reference':
      return base(AttributeType.UNDEFINED, { refAttrName: attribute.value })
    case 'opaque':
      return attribute.source as Onnx.IAttributeProto
  }
}

function encodeDim(dim: Dim): Onnx.TensorShapeProto.IDimension {
  if (typeof dim === 'number') return { dimValue: dim }
  return dim === undefined ? {} : { dimParam: dim }
}

/** Name of a sparse constant. */
export function sparseInitializerName(sparse: Onnx.ISparseTensorProto): string {
  return sparse.values?.name ?? ''
}

/** Names of the sparse constants of a loaded graph, which are kept as read: values without tensor and producer. */
export function sparseInitializerNames(graph: Graph): string[] {
  return ((graph.source as Onnx.IGraphProto | undefined)?.sparseInitializer ?? []).map(sparseInitializerName)
}

/** A ValueInfo of the file with the type that its value has now. */
function retyped(info: Onnx.IValueInfoProto, dtype: DType | undefined): Onnx.IValueInfoProto {
  const tensorType = info.type?.tensorType
  if (!tensorType || dtype === undefined || tensorType.elemType === dtypeNumber(dtype)) return info
  return derive(info, { type: derive(info.type, { tensorType: derive(tensorType, { elemType: dtypeNumber(dtype) }) }) })
}

/** The value's own ValueInfo when it came with one, else one made from its type and shape. */
function encodeValueInfo(value: Value): Onnx.IValueInfoProto {
  if (value.source !== undefined)
    return derive(retyped(value.source as Onnx.IValueInfoProto, value.dtype), { name: value.name })
  if (value.dtype === undefined) return { name: value.name }
  const shape = value.shape && { dim: value.shape.map(encodeDim) }
  return { name: value.name, type: { tensorType: { elemType: dtypeNumber(value.dtype), ...(shape && { shape }) } } }
}

function encodeNode(node: Node, place: Place = inline): Onnx.INodeProto {
  return derive<Onnx.INodeProto>(node.source, {
    input: node.inputs.map(input => input?.name ?? ''),
    output: node.outputs.map(output => output?.name ?? ''),
    opType: node.opType,
    attribute: [...node.attributes].map(([name, attribute]) => encodeAttribute(name, attribute, place)),
    ...(node.name && { name: node.name }),
    ...(node.domain && { domain: node.domain }),
  })
}

function encodeGraph(graph: Graph, place: Place = inline): Onnx.IGraphProto {
  const made = graph.nodes.flatMap(node => node.outputs.filter(output => output !== undefined))
  const defined = new Map([...made, ...graph.inputs, ...graph.initializers].map(value => [value.name, value.dtype]))
  for (const name of sparseInitializerNames(graph)) defined.set(name, undefined)
  const source = graph.source as Onnx.IGraphProto | undefined
  return derive<Onnx.IGraphProto>(graph.source, {
    name: graph.name,
    node: graph.nodes.map(node => encodeNode(node, place)),
    input: graph.inputs.map(encodeValueInfo),
    output: graph.outputs.map(encodeValueInfo),
    initializer: graph.initializers.map(value => encodeTensor(value.tensor!, value.name, place)),
    // Strict readers refuse type information about values that do not exist.
    valueInfo: (source?.valueInfo ?? []).flatMap(info => {
      const name = info.name ?? ''
      return defined.has(name) ? [retyped(info, defined.get(name))] : []
    }),
  })
}

/** Functions as they are in the file, with the versions of ai.onnx that the model says. */
function encodeFunctions({ source, functions }: Model): Onnx.IFunctionProto[] {
  const opsets = new Map([...(functions?.values() ?? [])].map(each => [each.source, each.opset]))
  return ((source as Onnx.IModelProto | undefined)?.functions ?? []).map(proto => {
    const opset = opsets.get(proto)
    const imports = (proto.opsetImport ?? []).map(each =>
      (each.domain || 'ai.onnx') === 'ai.onnx' && opset !== undefined ? { ...each, version: opset } : each,
    )
    return derive<Onnx.IFunctionProto>(proto, { opsetImport: imports })
  })
}

/** A model as bytes; `place` chooses where each tensor goes. Tensors on disk cannot go inline. */
export function encodeModel(model: Model, place: Place = inline): Uint8Array {
  const message = derive<Onnx.IModelProto>(model.source, {
    irVersion: model.irVersion,
    opsetImport: model.opsetImports.map(({ domain, version }) => ({ domain, version })),
    producerName: model.producerName,
    producerVersion: model.producerVersion,
    metadataProps: [...model.metadata].map(([key, value]) => ({ key, value })),
    graph: encodeGraph(model.graph, place),
    functions: encodeFunctions(model),
  })
  return onnx.ModelProto.encode(message).finish()
}
