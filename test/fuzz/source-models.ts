/**
 * @file Decoders of one block and 30 KB, as messages: the sources of the fuzzer. Together they have what real exports have: shape
 * arithmetic, caches, fused operators, branches, a loop, functions, Constant nodes, typed fields, half precision, external data.
 */

import { Random } from '../../src/calibration/rng.ts'
import { type Onnx, onnx } from '../../src/graph/onnx-file/onnx-proto.ts'
import { tensorType } from '../helpers/onnx-files.ts'

const [FLOAT, INT64, BOOL, FLOAT16] = [1, 7, 9, 10]
const [HIDDEN, HEADS, HEAD_DIM, FFN, VOCABULARY, POSITIONS] = [32, 2, 16, 64, 32, 64]
const { AttributeType } = onnx.AttributeProto

/** A model, and the files that belong beside it, by name. */
export interface SourceModel {
  readonly proto: Onnx.IModelProto
  readonly files: ReadonlyMap<string, Uint8Array>
}

type AttributeValue = number | string | readonly number[] | Onnx.ITensorProto | Onnx.IGraphProto

function attribute(name: string, value: AttributeValue): Onnx.IAttributeProto {
  if (typeof value === 'string') return { name, type: AttributeType.STRING, s: Buffer.from(value) }
  if (typeof value === 'number')
    return Number.isInteger(value)
      ? { name, type: AttributeType.INT, i: value }
      : { name, type: AttributeType.FLOAT, f: value }
  if (Array.isArray(value)) return { name, type: AttributeType.INTS, ints: [...value] }
  return 'node' in value
    ? { name, type: AttributeType.GRAPH, g: value as Onnx.IGraphProto }
    : { name, type: AttributeType.TENSOR, t: value as Onnx.ITensorProto }
}

const floats = (dims: number[], values: readonly number[], name = ''): Onnx.ITensorProto => ({
  name,
  dims,
  dataType: FLOAT,
  rawData: new Uint8Array(Float32Array.from(values).buffer),
})

const int64s = (dims: number[], values: readonly number[], name = ''): Onnx.ITensorProto => ({
  name,
  dims,
  dataType: INT64,
  int64Data: [...values],
})

/** Numbers that look like weights and are the same every time. */
function weightValues(count: number): number[] {
  const random = new Random(count)
  return Array.from({ length: count }, () => (random.next() - 0.5) / 2)
}

/** Nodes and constants in the order they are written. */
class Draft {
  readonly nodes: Onnx.INodeProto[] = []
  readonly initializers: Onnx.ITensorProto[] = []
  private count = 0

  op(
    opType: string,
    inputs: string[],
    attributes: Record<string, AttributeValue> = {},
    { domain = '', outputs = 1, name = '' } = {},
  ): string {
    const first = name || `v${this.count++}`
    const output = Array.from({ length: outputs }, (_, i) => (i === 0 ? first : `${first}_${i}`))
    this.nodes.push({
      opType,
      domain,
      name: `node_${first}`,
      input: inputs,
      output,
      attribute: Object.entries(attributes).map(([key, value]) => attribute(key, value)),
    })
    return first
  }

  weight(name: string, ...dims: number[]): string {
    this.initializers.push(floats(dims, weightValues(dims.reduce((a, b) => a * b, 1)), name))
    return name
  }

  ints(values: readonly number[], dims: number[] = [values.length]): string {
    return this.op('Constant', [], { value: int64s(dims, values) })
  }

  float(value: number): string {
    return this.op('Constant', [], { value: floats([], [value]) })
  }

  size(x: string, axis: number): string {
    return this.op('Gather', [this.op('Shape', [x]), this.ints([axis], [])], { axis: 0 })
  }

  join(...sizes: (string | number)[]): string {
    const parts = sizes.map(size =>
      typeof size === 'number' ? this.ints([size]) : this.op('Unsqueeze', [size, this.ints([0])]),
    )
    return this.op('Concat', parts, { axis: 0 })
  }

  norm(x: string, gain: string): string {
    const square = this.op('ReduceMean', [this.op('Pow', [x, this.float(2)]), this.ints([-1])], { keepdims: 1 })
    const root = this.op('Sqrt', [this.op('Add', [square, this.float(1e-5)])])
    return this.op('Mul', [this.op('Div', [x, root]), gain])
  }

  heads(x: string, batch: string, sequence: string): string {
    const split = this.op('Reshape', [x, this.join(batch, sequence, HEADS, HEAD_DIM)])
    return this.op('Transpose', [split], { perm: [0, 2, 1, 3] })
  }

  rotate(x: string, cos: string, sin: string): string {
    const half = this.op('Unsqueeze', [this.op('Div', [this.size(x, 3), this.ints([2], [])]), this.ints([0])])
    const [axis, step] = [this.ints([3]), this.ints([1])]
    const low = this.op('Slice', [x, this.ints([0]), half, axis, step])
    const high = this.op('Slice', [x, half, this.ints([2 ** 31]), axis, step])
    const turned = this.op('Concat', [this.op('Neg', [high]), low], { axis: -1 })
    return this.op('Add', [this.op('Mul', [x, cos]), this.op('Mul', [turned, sin])])
  }
}

const info = (name: string, elemType: number, dims: (number | string)[]): Onnx.IValueInfoProto => ({
  name,
  type: tensorType(elemType, dims),
})

const cache = (name: string, length: string) => info(name, FLOAT, ['batch', HEADS, length, HEAD_DIM])
const IDS = info('input_ids', INT64, ['batch', 'sequence'])
const INPUTS = [
  IDS,
  info('attention_mask', INT64, ['batch', 'total']),
  info('position_ids', INT64, ['batch', 'sequence']),
  cache('past_key_values.0.key', 'past'),
  cache('past_key_values.0.value', 'past'),
]
const OUTPUTS = [
  info('logits', FLOAT, ['batch', 'sequence', VOCABULARY]),
  cache('present.0.key', 'total'),
  cache('present.0.value', 'total'),
]

/** The MLP and what follows; ends in "logits". */
function finish(d: Draft, x: string, normOf = (y: string, gain: string) => d.norm(y, gain)): void {
  const y = normOf(x, d.weight('gain2', HIDDEN))
  const gate = d.op('MatMul', [y, d.weight('gate', HIDDEN, FFN)])
  const up = d.op('MatMul', [y, d.weight('up', HIDDEN, FFN)])
  const activated = d.op('Mul', [d.op('Mul', [gate, d.op('Sigmoid', [gate])]), up])
  const down = d.op('Gemm', [
    d.op('Reshape', [activated, d.ints([-1, FFN])]),
    d.weight('down', FFN, HIDDEN),
    d.weight('bias', HIDDEN),
  ])
  const sum = d.op('Add', [x, d.op('Reshape', [down, d.join(d.size(x, 0), -1, HIDDEN)])])
  const last = normOf(sum, d.weight('gain3', HIDDEN))
  d.op(
    'MatMul',
    [last, d.op('Transpose', [d.weight('head', VOCABULARY, HIDDEN)], { perm: [1, 0] })],
    {},
    { name: 'logits' },
  )
}

/** A Llama as optimum writes it: primitive operators, shapes computed by nodes. */
function primitive(normOf?: (d: Draft) => (y: string, gain: string) => string): Draft {
  const d = new Draft()
  const norm = normOf?.(d)
  const x = d.op('Gather', [d.weight('table', VOCABULARY, HIDDEN), 'input_ids'])
  const [batch, sequence] = [d.size('input_ids', 0), d.size('input_ids', 1)]
  const past = d.size('past_key_values.0.key', 2)
  const total = d.op('Add', [past, sequence])

  const frequencies = d.op('Expand', [
    d.op('Constant', [], { value: floats([1, HEAD_DIM / 2, 1], weightValues(HEAD_DIM / 2)) }),
    d.join(batch, 1, 1),
  ])
  const positions = d.op('Cast', [d.op('Unsqueeze', ['position_ids', d.ints([1])])], { to: FLOAT })
  const angles = d.op('Transpose', [d.op('MatMul', [frequencies, positions])], { perm: [0, 2, 1] })
  const both = d.op('Concat', [angles, angles], { axis: -1 })
  const [cos, sin] = ['Cos', 'Sin'].map(kind => d.op('Unsqueeze', [d.op(kind, [both]), d.ints([1])]))

  const row = (value: string, axes: number[]) => d.op('Unsqueeze', [value, d.ints(axes)])
  const one = d.ints([1], [])
  const queries = row(d.op('Range', [past, total, one]), [0, 1, 3])
  const keys = row(d.op('Range', [d.ints([0], []), total, one]), [0, 1, 2])
  const real = row(d.op('Cast', ['attention_mask'], { to: BOOL }), [1, 2])
  const seen = d.op('And', [d.op('LessOrEqual', [keys, queries]), real])
  const closed = d.op('ConstantOfShape', [d.join(batch, 1, sequence, total)], { value: floats([1], [-1e9]) })
  const tiled = d.op('Trilu', [d.op('Tile', [closed, d.ints([1, 1, 1, 1])]), d.ints([1], [])], { upper: 1 })
  const padded = d.op('Pad', [tiled, d.ints([0, 0, 0, 0, 0, 0, 0, 0])])
  const mask = d.op('Where', [d.op('Expand', [seen, d.op('Shape', [padded])]), d.float(0), padded])

  const y = (norm ?? ((a, gain) => d.norm(a, gain)))(x, d.weight('gain1', HIDDEN))
  const project = (name: string) => d.op('MatMul', [y, d.weight(name, HIDDEN, HIDDEN)])
  const q = d.rotate(d.heads(project('q'), batch, sequence), cos!, sin!)
  const k = d.rotate(d.heads(project('k'), batch, sequence), cos!, sin!)
  const v = d.heads(project('v'), batch, sequence)
  const keysAll = d.op('Concat', ['past_key_values.0.key', k], { axis: 2 }, { name: 'present.0.key' })
  const valuesAll = d.op('Concat', ['past_key_values.0.value', v], { axis: -2 }, { name: 'present.0.value' })
  const scores = d.op('MatMul', [q, d.op('Transpose', [keysAll], { perm: [0, 1, 3, 2] })])
  const scaled = d.op('Add', [d.op('Mul', [scores, d.float(0.25)]), mask])
  const attended = d.op('MatMul', [d.op('Softmax', [scaled], { axis: -1 }), valuesAll])
  const joined = d.op('Reshape', [
    d.op('Transpose', [attended], { perm: [0, 2, 1, 3] }),
    d.join(batch, sequence, HIDDEN),
  ])
  finish(d, d.op('Add', [x, d.op('MatMul', [joined, d.weight('o', HIDDEN, HIDDEN)])]), norm)
  return d
}

/** A Llama as onnxruntime-genai's model builder writes it: fused operators. */
function fused(): Draft {
  const d = new Draft()
  const domain = 'com.microsoft'
  const x = d.op('Gather', [d.weight('table', VOCABULARY, HIDDEN), 'input_ids'])
  const y = d.op('SimplifiedLayerNormalization', [x, d.weight('gain1', HIDDEN)], { axis: -1, epsilon: 1.5e-5 })
  const qkv = d.op('MatMul', [y, d.weight('qkv', HIDDEN, 3 * HIDDEN)])
  const lengths = d.op('ReduceSum', ['attention_mask', d.ints([1])], { keepdims: 0 })
  const last = d.op('Cast', [d.op('Sub', [lengths, d.ints([1])])], { to: 6 })
  const total = d.op('Cast', [d.size('attention_mask', 1)], { to: 6 })
  const tables = ['cos', 'sin'].map(name => d.weight(name, POSITIONS, HEAD_DIM / 2))
  const attended = d.op(
    'GroupQueryAttention',
    [qkv, '', '', 'past_key_values.0.key', 'past_key_values.0.value', last, total, ...tables],
    { num_heads: HEADS, kv_num_heads: HEADS, do_rotary: 1, rotary_interleaved: 0, scale: 0.25, local_window_size: -1 },
    { domain },
  )
  d.nodes.at(-1)!.output = [attended, 'present.0.key', 'present.0.value']
  const o = d.op('MatMul', [attended, d.weight('o', HIDDEN, HIDDEN)])
  const norm = ['SkipSimplifiedLayerNormalization', [x, o, d.weight('gain2', HIDDEN)]] as const
  const skip = d.op(...(norm as unknown as [string, string[]]), { epsilon: 1.5e-5 }, { domain, outputs: 4 })
  const up = d.op('FastGelu', [d.op('MatMul', [skip, d.weight('up', HIDDEN, FFN)])], {}, { domain })
  const sum = d.op('Add', [`${skip}_3`, d.op('MatMul', [up, d.weight('down', FFN, HIDDEN)])])
  const normed = d.op('LayerNormalization', [sum, d.weight('gain3', HIDDEN), d.weight('bias3', HIDDEN)], { axis: -1 })
  d.op('MatMul', [normed, d.weight('head', HIDDEN, VOCABULARY)], {}, { name: 'logits' })
  return d
}

function modelOf(
  d: Draft,
  extra: Partial<Onnx.IModelProto> = {},
  inputs: Onnx.IValueInfoProto[] = INPUTS,
): Onnx.IModelProto {
  return {
    irVersion: 8,
    producerName: 'fuzz',
    opsetImport: [
      { domain: '', version: 18 },
      { domain: 'com.microsoft', version: 1 },
      { domain: 'own', version: 1 },
    ],
    graph: { name: 'g', node: d.nodes, initializer: d.initializers, input: inputs, output: OUTPUTS },
    metadataProps: [{ key: 'who', value: 'fuzz' }],
    ...extra,
  }
}

const alone = (proto: Onnx.IModelProto): SourceModel => ({ proto, files: new Map() })

/** Both branches of one If, as in optimum's merged decoders. */
function branches(): Onnx.IModelProto {
  const d = primitive()
  const body = (name: string): Onnx.IGraphProto => ({ name, node: d.nodes, output: OUTPUTS })
  const flag = info('use_cache_branch', BOOL, [1])
  const merged = new Draft()
  merged.op('If', ['use_cache_branch'], { then_branch: body('with'), else_branch: body('without') })
  merged.nodes[0]!.output = OUTPUTS.map(({ name }) => name!)
  merged.initializers.push(...d.initializers)
  return modelOf(merged, {}, [...INPUTS, flag])
}

/** Norms as functions that call functions, and a loop and a sparse constant that do not lead to the logits. */
function functions(): Onnx.IModelProto {
  const d = primitive(draft => (y, gain) => draft.op('Norm', [y, gain], { power: 2 }, { domain: 'own' }))
  const norm = new Draft()
  const [square, shift] = [norm.op('Square', ['x'], {}, { domain: 'own' }), norm.float(1e-5)]
  const mean = norm.op('ReduceMean', [square, norm.ints([-1])], { keepdims: 1 })
  const scaled = norm.op('Div', ['x', norm.op('Sqrt', [norm.op('Add', [mean, shift])])])
  norm.op('Mul', [scaled, 'gain'], {}, { name: 'y' })
  const squared = new Draft()
  squared.op('Mul', ['x', 'x'], {}, { name: 'y' })
  const body = new Draft()
  body.op('Add', ['carried', 'carried'], {}, { name: 'doubled' })
  body.op('Identity', ['go'], {}, { name: 'going' })
  const loop: Onnx.IGraphProto = {
    name: 'body',
    node: body.nodes,
    input: [info('i', INT64, []), info('go', BOOL, []), info('carried', FLOAT, [1])],
    output: [info('going', BOOL, []), info('doubled', FLOAT, [1])],
  }
  d.op('Loop', [d.ints([4], []), '', d.op('Constant', [], { value: floats([1], [1]) })], { body: loop })
  const opsetImport = [
    { domain: '', version: 18 },
    { domain: 'own', version: 1 },
  ]
  const model = modelOf(d, {
    functions: [
      { name: 'Square', domain: 'own', input: ['x'], output: ['y'], node: squared.nodes, opsetImport },
      {
        name: 'Norm',
        domain: 'own',
        input: ['x', 'gain'],
        output: ['y'],
        attribute: ['power'],
        node: norm.nodes,
        opsetImport,
      },
    ],
  })
  model.graph!.sparseInitializer = [{ values: floats([1], [3], 'sparse'), indices: int64s([1], [2]), dims: [8] }]
  return model
}

/** Weights in float_data, and one in half precision. */
function typed(): Onnx.IModelProto {
  const d = primitive()
  for (const tensor of d.initializers) {
    if (tensor.name === 'up') {
      tensor.dataType = FLOAT16
      tensor.rawData = new Uint8Array(tensor.rawData!.length / 2).fill(0x2c)
      d.nodes.find(({ input }) => input!.includes('up'))!.input![1] = d.op('Cast', ['up'], { to: FLOAT })
    } else if (tensor.name !== 'table') {
      tensor.floatData = weightValues(tensor.rawData!.length / 4)
      delete tensor.rawData
    }
  }
  return modelOf(d)
}

/** Weights in two data files. */
function external(): SourceModel {
  const d = primitive()
  const files = new Map<string, Uint8Array[]>([
    ['model.onnx.data', []],
    ['more.bin', []],
  ])
  d.initializers.forEach((tensor, i) => {
    const [location, parts] = [...files][i % 2]!
    const offset = parts.reduce((sum, part) => sum + part.length, 0)
    parts.push(tensor.rawData!)
    tensor.externalData = Object.entries({ location, offset, length: tensor.rawData!.length }).map(([key, value]) => ({
      key,
      value: String(value),
    }))
    tensor.dataLocation = onnx.TensorProto.DataLocation.EXTERNAL
    delete tensor.rawData
  })
  return {
    proto: modelOf(d),
    files: new Map([...files].map(([name, parts]) => [name, new Uint8Array(Buffer.concat(parts))])),
  }
}

/** Models by name. Every call makes new ones. */
export function sourceModels(): ReadonlyMap<string, SourceModel> {
  return new Map([
    ['primitive', alone(modelOf(primitive()))],
    ['fused', alone(modelOf(fused()))],
    ['branches', alone(branches())],
    ['functions', alone(functions())],
    ['typed', alone(typed())],
    ['external', external()],
  ])
}
