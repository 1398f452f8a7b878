/** @file Protobuf messages -> plain objects: the inward half of the edge of the file format. Reads no weights. */

import { messageOf, QuantError } from '../../errors.ts'
import { type DType, dtypeFromNumber } from '../dtype.ts'
import { type Attribute, type Dim, Graph, type LocalFunction, type Model, Node, Value } from '../ir.ts'
import { MAX_BODY_DEPTH, MAX_NAME_BYTES, MAX_NODES, MAX_RANK } from '../limits.ts'
import { decodeTensor } from './decode-tensor.ts'
import { derive, sparseInitializerName } from './encode.ts'
import type { ModelFile } from './external-data.ts'
import { onnx, type Onnx, toNumber, unknownRecords } from './onnx-proto.ts'
import { tooMany } from './wire.ts'

const { AttributeType } = onnx.AttributeProto

/** Names a node can see: those of its own graph, then of the graphs around it. */
class Scope {
  private readonly values = new Map<string, Value>()
  private readonly outer: Scope | undefined
  /** Graphs around this one. */
  readonly depth: number

  constructor(outer?: Scope) {
    this.outer = outer
    this.depth = outer ? outer.depth + 1 : 0
  }

  /** The value of this graph with this name, made at its first use. */
  own(name: string): Value {
    let value = this.values.get(name)
    if (value === undefined) {
      value = new Value(checkName(name))
      this.values.set(name, value)
    }
    return value
  }

  find(name: string): Value | undefined {
    return this.values.get(name) ?? this.outer?.find(name)
  }

  /** The visible value of this name. A name that nothing defines becomes a value of this graph, and verify.ts reports it. */
  resolve(name: string): Value {
    return this.find(name) ?? this.own(name)
  }
}

/** Checks the length of a name. @throws E_TOO_LARGE */
function checkName(name: string): string {
  if (name.length <= MAX_NAME_BYTES) return name
  throw new QuantError(
    'E_TOO_LARGE',
    `a name in the file is ${name.length} characters long, more than ${MAX_NAME_BYTES}: "${name.slice(0, 40)}..."`,
    'Export the model again.',
  )
}

const text = (bytes: Uint8Array | null | undefined): string => Buffer.from(bytes ?? []).toString('utf8')

function decodeDim(dim: Onnx.TensorShapeProto.IDimension): Dim {
  if (Object.hasOwn(dim, 'dimValue')) {
    const size = toNumber(dim.dimValue)
    // Some writers say -1 for unknown. Sizes beyond 2^53 count as unknown too.
    return size >= 0 && Number.isSafeInteger(size) ? size : undefined
  }
  return dim.dimParam || undefined
}

function knownDType(number: number | null | undefined): DType | undefined {
  return number ? dtypeFromNumber(number) : undefined
}

/** Sets type and shape of a value from its ValueInfoProto; sequences and maps stay untyped. */
function describe(value: Value, info: Onnx.IValueInfoProto): void {
  const type = info.type?.tensorType
  if (!type) return
  value.dtype ??= knownDType(type.elemType)
  const dims = type.shape?.dim ?? []
  if (dims.length > MAX_RANK)
    throw new QuantError('E_TOO_LARGE', `"${value.name}" has ${dims.length} dimensions, more than ${MAX_RANK}`)
  if (type.shape) value.shape ??= dims.map(decodeDim)
}

class Decoder {
  private readonly file: ModelFile | undefined
  private nodes = 0

  constructor(file: ModelFile | undefined) {
    this.file = file
  }

  graph(proto: Onnx.IGraphProto, outer?: Scope): Graph {
    const graph = new Graph(proto.name ?? '')
    const scope = new Scope(outer)
    if (scope.depth > MAX_BODY_DEPTH)
      throw new QuantError(
        'E_TOO_LARGE',
        `bodies are nested deeper than ${MAX_BODY_DEPTH} graphs`,
        'Export the model again.',
      )
    this.nodes += proto.node?.length ?? 0
    if (this.nodes > MAX_NODES) throw tooMany(this.file?.path ?? 'the model', `${MAX_NODES} nodes`)
    // Names of the graph are defined first: bodies may use values of nodes that come later in the file.
    graph.inputs = (proto.input ?? []).map(info => this.declared(scope.own(info.name ?? ''), info))
    graph.initializers = (proto.initializer ?? []).map(tensor => this.initializer(scope, tensor))
    for (const sparse of proto.sparseInitializer ?? []) scope.own(sparseInitializerName(sparse))
    const outputs = (proto.node ?? []).map(node =>
      (node.output ?? []).map(name => (name ? scope.own(name) : undefined)),
    )
    graph.outputs = (proto.output ?? []).map(info => this.declared(scope.resolve(info.name ?? ''), info))
    for (const info of proto.valueInfo ?? []) {
      const value = scope.find(info.name ?? '')
      if (value) describe(value, info)
    }
    graph.nodes = (proto.node ?? []).map((node, i) => this.node(node, outputs[i]!, scope))
    // Decoded parts are objects now; `source` keeps the other fields for encode.ts.
    graph.source = derive(proto, { node: [], initializer: [], input: [], output: [] })
    return graph
  }

  private declared(value: Value, info: Onnx.IValueInfoProto): Value {
    describe(value, info)
    value.source ??= info
    return value
  }

  private initializer(scope: Scope, proto: Onnx.ITensorProto): Value {
    const value = scope.own(proto.name ?? '')
    value.tensor = decodeTensor(proto, `the initializer "${value.name}"`, this.file)
    value.dtype = value.tensor.dtype
    value.shape = value.tensor.dims
    return value
  }

  private node(proto: Onnx.INodeProto, outputs: (Value | undefined)[], scope: Scope): Node {
    const inputs = (proto.input ?? []).map(name => (name ? scope.resolve(name) : undefined))
    const [opType, domain, name] = [proto.opType, proto.domain, proto.name].map(each => checkName(each ?? ''))
    const node = new Node(opType!, inputs, outputs, new Map(), domain, name)
    for (const attribute of proto.attribute ?? []) {
      const name = checkName(attribute.name ?? '')
      if (node.attributes.has(name)) {
        throw new QuantError('E_NOT_ONNX', `${node.kind} "${node.name}" has its attribute "${name}" twice`)
      }
      node.attributes.set(name, this.attribute(attribute, node, scope))
    }
    node.source = derive(proto, { input: [], output: [], attribute: [] })
    return node
  }

  function(proto: Onnx.IFunctionProto): LocalFunction {
    const named = (names: readonly string[] | null | undefined) => (names ?? []).map(name => ({ name }))
    const { node, input, output, opsetImport } = proto
    const body = this.graph({ name: proto.name, node, input: named(input), output: named(output) })
    const caller = new Node(proto.name ?? '', [], [], new Map(), proto.domain ?? '')
    const defaults = unknownRecords(proto, DEFAULT_ATTRIBUTES).map((bytes): [string, Attribute] => {
      const attribute = onnx.AttributeProto.decode(bytes)
      return [attribute.name, this.attribute(attribute, caller, new Scope())]
    })
    const opset = opsetImport?.find(({ domain }) => !domain || domain === 'ai.onnx')?.version
    return { body, defaults: new Map(defaults), opset: toNumber(opset), source: proto }
  }

  private attribute(proto: Onnx.IAttributeProto, node: Node, scope: Scope): Attribute {
    const source = proto
    if (proto.refAttrName) return { type: 'reference', value: proto.refAttrName, source }
    switch (proto.type) {
      case AttributeType.INT:
        return { type: 'int', value: toNumber(proto.i), source }
      case AttributeType.FLOAT:
        return { type: 'float', value: proto.f ?? 0, source }
      case AttributeType.INTS:
        return { type: 'ints', value: (proto.ints ?? []).map(toNumber), source }
      case AttributeType.FLOATS:
        return { type: 'floats', value: proto.floats ?? [], source }
      case AttributeType.STRING:
        return { type: 'string', value: text(proto.s), source }
      case AttributeType.STRINGS:
        return { type: 'strings', value: (proto.strings ?? []).map(text), source }
      case AttributeType.TENSOR: {
        const value = decodeTensor(proto.t ?? {}, `attribute "${proto.name}" of ${node.kind} "${node.name}"`, this.file)
        return { type: 'tensor', value, source: derive(proto, { t: { name: proto.t?.name || undefined } }) }
      }
      case AttributeType.GRAPH:
        return { type: 'graph', value: this.graph(proto.g ?? {}, scope), source: derive(proto, { g: null }) }
      default:
        refuseExternal(proto, `attribute "${proto.name}" of ${node.kind} "${node.name}"`)
        return { type: 'opaque', source }
    }
  }
}

/** FunctionProto.attribute_proto. */
const DEFAULT_ATTRIBUTES = 11

/** Refuses opaque parts with external data, because saving would lose that data. @throws E_UNSUPPORTED */
function refuseExternal(part: unknown, where: string): void {
  if (typeof part !== 'object' || part === null || ArrayBuffer.isView(part)) return
  if ((part as Onnx.ITensorProto).dataLocation === onnx.TensorProto.DataLocation.EXTERNAL) {
    throw new QuantError('E_UNSUPPORTED', `${where} has values in a data file; omniquant cannot carry those along`)
  }
  for (const child of Object.values(part)) refuseExternal(child, where)
}

/**
 * A model from the bytes of a ModelProto. `file` holds the large payloads that load.ts left on disk; it is absent for other bytes.
 * Nodes keep the order of the file.
 * @throws E_NOT_ONNX, E_TRUNCATED, E_UNSUPPORTED, E_EXTERNAL_DATA, E_TOO_LARGE
 */
export function decodeModel(bytes: Uint8Array, file?: ModelFile): Model {
  const name = file?.path ?? 'the model'
  try {
    return modelOf(onnx.ModelProto.decode(bytes), name, file)
  } catch (error) {
    if (error instanceof QuantError) throw error
    // The protobuf decoder's own errors: a record that makes no sense, or messages nested until the stack ends.
    throw new QuantError(
      'E_NOT_ONNX',
      `${name} is not a readable ONNX file: ${messageOf(error)}`,
      'If it should be a model, it is damaged: copy or download it again.',
      { cause: error },
    )
  }
}

function modelOf(proto: Onnx.IModelProto, name: string, file: ModelFile | undefined): Model {
  if (!proto.graph) throw new QuantError('E_NOT_ONNX', `${name} is not an ONNX model: it has no graph`)
  if (!proto.opsetImport || proto.opsetImport.length === 0) {
    throw new QuantError('E_NOT_ONNX', `${name} does not say which operator set it uses`, 'Export the model again.')
  }
  refuseExternal([proto.functions, proto.trainingInfo, proto.graph.sparseInitializer], 'a function or sparse tensor')
  const decoder = new Decoder(file)
  const functions = (proto.functions ?? []).map(each => {
    const { opType, domain } = { opType: each.name ?? '', domain: each.domain ?? '' }
    return [new Node(opType, [], [], new Map(), domain).kind, decoder.function(each)] as const
  })
  return {
    graph: decoder.graph(proto.graph),
    functions: new Map(functions),
    irVersion: toNumber(proto.irVersion),
    opsetImports: proto.opsetImport.map(({ domain, version }) => ({
      domain: domain ?? '',
      version: toNumber(version),
    })),
    producerName: proto.producerName ?? '',
    producerVersion: proto.producerVersion ?? '',
    metadata: new Map((proto.metadataProps ?? []).map(({ key, value }) => [key ?? '', value ?? ''])),
    path: file?.path,
    source: derive(proto, { graph: null }),
  }
}
