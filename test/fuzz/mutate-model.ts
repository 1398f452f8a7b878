/** @file Changes to a model's messages that leave the file readable: shapes, names, wiring, attributes, places of data. */

import type { Random } from '../../src/calibration/rng.ts'
import { type Onnx, onnx } from '../../src/graph/onnx-file/onnx-proto.ts'

/** One of a list; undefined of an empty one. */
const pick = <T>(random: Random, list: readonly T[]): T => list[random.int(list.length)]!

/** Longs go in as strings do: the encoder reads decimal digits exactly. */
const SIZES: readonly (number | string)[] = [
  0,
  1,
  2,
  3,
  7,
  -1,
  -2,
  1000,
  65536,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 40,
  Number.MAX_SAFE_INTEGER,
  '4611686018427387904',
  '9223372036854775807',
  '-9223372036854775808',
]

const long = (value: number | string): number => onnxLong(value) as unknown as number

function onnxLong(value: number | string): object {
  const bits = BigInt(value)
  return { low: Number(BigInt.asIntN(32, bits)), high: Number(BigInt.asIntN(32, bits >> 32n)), unsigned: false }
}

/** Every graph of the model, bodies and functions included. */
function graphs(model: Onnx.IModelProto): (Onnx.IGraphProto | Onnx.IFunctionProto)[] {
  const found: (Onnx.IGraphProto | Onnx.IFunctionProto)[] = []
  const visit = (graph: Onnx.IGraphProto | Onnx.IFunctionProto) => {
    found.push(graph)
    for (const node of graph.node ?? []) for (const { g } of node.attribute ?? []) if (g) visit(g)
  }
  if (model.graph) visit(model.graph)
  for (const each of model.functions ?? []) visit(each)
  return found
}

const OPERATORS = (
  'Add Sub Mul Div Mod Pow Max Min Range Expand Tile Pad Concat Slice Split Gather GatherElements GatherND ScatterND ' +
  'ConstantOfShape Reshape Transpose Squeeze Unsqueeze Cast CastLike Shape Size OneHot TopK CumSum Trilu Where MatMul Gemm ' +
  'ReduceMax ReduceProd ArgMax BitShift NonZero Einsum Loop If Scan Constant Identity Softmax LayerNormalization Flatten ' +
  'Dropout IsNaN Clip Sum DequantizeLinear QuantizeLinear Equal Not Round Sin PRelu ScatterElements RMSNormalization'
).split(' ')

const MICROSOFT = (
  'GroupQueryAttention MultiHeadAttention RotaryEmbedding SkipSimplifiedLayerNormalization SkipLayerNormalization ' +
  'BiasGelu FastGelu QuickGelu Gelu FusedMatMul MatMulNBits Attention'
).split(' ')

type Change = (random: Random, model: Onnx.IModelProto) => void

const inGraph =
  (
    change: (random: Random, graph: Onnx.IGraphProto, node: Onnx.INodeProto, names: readonly string[]) => void,
  ): Change =>
  (random, model) => {
    const graph = pick(random, graphs(model)) as Onnx.IGraphProto
    const nodes = graph.node ?? []
    if (nodes.length === 0) return
    const names = [
      '',
      'nobody',
      ...nodes.flatMap(({ output }) => output ?? []),
      ...(graph.initializer ?? []).map(({ name }) => name ?? ''),
      ...(model.graph?.input ?? []).map(({ name }) => name ?? ''),
    ]
    change(random, graph, pick(random, nodes), names)
  }

const inTensor =
  (change: (random: Random, tensor: Onnx.ITensorProto) => void): Change =>
  (random, model) => {
    const tensors = graphs(model).flatMap(graph => [
      ...((graph as Onnx.IGraphProto).initializer ?? []),
      ...(graph.node ?? []).flatMap(({ attribute }) => (attribute ?? []).flatMap(({ t }) => t ?? [])),
    ])
    if (tensors.length > 0) change(random, pick(random, tensors))
  }

const CHANGES: readonly Change[] = [
  // Another value in a constant of the shape arithmetic.
  inTensor((random, tensor) => {
    if (tensor.dataType !== 7 || !tensor.int64Data || tensor.int64Data.length === 0) return
    tensor.int64Data[random.int(tensor.int64Data.length)] = long(pick(random, SIZES))
  }),
  inTensor((random, tensor) => {
    tensor.dims ??= []
    if (random.int(3) === 0) tensor.dims.push(long(pick(random, SIZES)))
    else if (tensor.dims.length > 0) tensor.dims[random.int(tensor.dims.length)] = long(pick(random, SIZES))
  }),
  // Dims and values that agree with each other and with nothing else.
  inTensor((random, tensor) => {
    tensor.dims = pick(random, [[], [0], [1], [2, 2], [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], [3, 0, 2]])
    const count = tensor.dims.reduce((a, b) => Number(a) * Number(b), 1)
    tensor.dataType = pick(random, [1, 7, 7, 6, 9, 10, 11, 2, 3, 16, 21, 8, 14])
    const key = [6, 9, 10, 2, 3, 16, 21].includes(tensor.dataType) ? 'int32Data' : 'floatData'
    for (const each of ['rawData', 'floatData', 'int32Data', 'int64Data'] as const) delete tensor[each]
    if (tensor.dataType === 7) tensor.int64Data = Array.from({ length: count }, () => long(pick(random, SIZES)))
    else tensor[key] = Array.from({ length: count }, () => pick(random, [0, 1, 2, 100]))
  }),
  inTensor((random, tensor) => {
    tensor.dataType = random.int(30)
  }),
  inTensor((random, tensor) => {
    const location = pick(random, [
      '../model.onnx',
      '/etc/passwd',
      'model.onnx',
      '.',
      '',
      'a\0b',
      '/dev/zero',
      'link',
      'x'.repeat(9000),
    ])
    const number = () => String(pick(random, [...SIZES, 'NaN', '1e3', '-1', '0x10', ' 4']))
    tensor.dataLocation = onnx.TensorProto.DataLocation.EXTERNAL
    if (random.int(2) === 0 || !tensor.externalData?.length)
      tensor.externalData = [
        { key: 'location', value: location },
        { key: 'offset', value: number() },
        { key: 'length', value: number() },
      ]
    else pick(random, tensor.externalData).value = number()
    delete tensor.rawData
  }),
  // Names and readers of values.
  inGraph((random, _, node, names) => {
    if (node.input?.length) node.input[random.int(node.input.length)] = pick(random, names)
  }),
  inGraph((random, _, node, names) => {
    if (node.output?.length) node.output[random.int(node.output.length)] = pick(random, names)
  }),
  inGraph((random, _, node, names) => {
    node.input = random.int(2) === 0 ? (node.input ?? []).slice(0, -1) : [...(node.input ?? []), pick(random, names)]
  }),
  inGraph((random, _, node) => {
    node.output = random.int(2) === 0 ? (node.output ?? []).slice(1) : [...(node.output ?? []), `more_${random.int(9)}`]
  }),
  inGraph((random, _, node, names) => {
    node.input = Array.from({ length: random.int(5) }, () => pick(random, names))
  }),
  // Another operator, with or without the inputs it needs.
  inGraph((random, _, node) => {
    node.opType = pick(random, OPERATORS)
    node.domain = ''
  }),
  inGraph((random, _, node) => {
    const own = pick(random, [true, false])
    node.opType = own ? pick(random, ['Norm', 'Square', 'nobody']) : pick(random, MICROSOFT)
    node.domain = own ? 'own' : 'com.microsoft'
  }),
  inGraph((random, graph, node, names) => {
    graph.node!.splice(random.int(graph.node!.length + 1), 0, {
      ...node,
      opType: pick(random, OPERATORS),
      input: Array.from({ length: random.int(4) }, () => pick(random, names)),
      output: [`new_${random.int(1000)}`],
    })
    const made = graph.node!.find(({ output }) => output?.[0]?.startsWith('new_'))!.output![0]!
    const reader = pick(random, graph.node!)
    if (reader?.input?.length) reader.input[random.int(reader.input.length)] = made
  }),
  inGraph((random, graph) => {
    const nodes = graph.node!
    const [i, j] = [random.int(nodes.length), random.int(nodes.length)]
    ;[nodes[i], nodes[j]] = [nodes[j]!, nodes[i]!]
  }),
  inGraph((random, graph) => {
    graph.node!.splice(random.int(graph.node!.length), 1)
  }),
  // Attributes.
  inGraph((random, _, node) => {
    const attribute = node.attribute?.length ? pick(random, node.attribute) : undefined
    if (!attribute) return
    if (attribute.ints?.length) attribute.ints[random.int(attribute.ints.length)] = long(pick(random, SIZES))
    else if (random.int(2) === 0) attribute.i = long(pick(random, SIZES))
    else attribute.type = random.int(15)
  }),
  inGraph((random, _, node) => {
    const name = pick(random, [
      'axis',
      'axes',
      'perm',
      'to',
      'keepdims',
      'value',
      'num_heads',
      'batch_dims',
      'value_ints',
      'fmod',
    ])
    const list = Array.from({ length: random.int(4) }, () => long(pick(random, SIZES)))
    const int = { name, type: onnx.AttributeProto.AttributeType.INT, i: long(pick(random, SIZES)) }
    const ints = { name, type: onnx.AttributeProto.AttributeType.INTS, ints: list }
    node.attribute = [...(node.attribute ?? []).filter(each => each.name !== name), pick(random, [int, ints])]
  }),
  inGraph((random, _, node) => {
    if (node.attribute?.length) node.attribute.splice(random.int(node.attribute.length), 1)
  }),
  // Inputs and outputs of the graph.
  (random, model) => {
    const graph = model.graph!
    const info = pick(random, [...(graph.input ?? []), ...(graph.output ?? [])])
    if (!info) return
    const type = info.type?.tensorType
    const what = random.int(4)
    if (what === 0)
      info.name = pick(random, ['logits', 'input_ids', 'present.0.key', 'past_key_values.9.key', '', 'v3'])
    else if (what === 1 || !type?.shape?.dim) info.type = { tensorType: { elemType: random.int(28) } }
    else if (what === 2) type.elemType = random.int(28)
    else if (type.shape.dim.length > 0)
      type.shape.dim[random.int(type.shape.dim.length)] = { dimValue: long(pick(random, SIZES)) }
  },
  (random, model) => {
    const graph = model.graph!
    const list = pick(random, [graph.input!, graph.output!])
    const info = pick(random, [...graph.input!, ...graph.output!])
    if (!info) return
    if (random.int(2) === 0) list.splice(random.int(list.length), 1)
    else list.push(info)
  },
  (random, model) => {
    pick(random, model.opsetImport ?? [{}]).version = long(pick(random, [1, 6, 9, 11, 12, 13, 17, 21, 25, ...SIZES]))
  },
]

/** The model with one or a few changes; `model` itself is changed. */
export function mutateModel(random: Random, model: Onnx.IModelProto): void {
  for (let n = pick(random, [1, 1, 1, 2, 3, 6]); n > 0; n--) pick(random, CHANGES)(random, model)
}
