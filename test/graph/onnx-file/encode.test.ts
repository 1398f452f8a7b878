/** @file Decoding and encoding lose nothing: one model with everything a file may hold, and random ones. */

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Builder } from '../../../src/graph/builder.ts'
import { decodeModel } from '../../../src/graph/onnx-file/decode.ts'
import { encodeModel } from '../../../src/graph/onnx-file/encode.ts'
import { type Attribute, Graph, type Model, newModel, Node, Value } from '../../../src/graph/ir.ts'
import { type Onnx, onnx } from '../../../src/graph/onnx-file/onnx-proto.ts'
import { print } from '../../../src/graph/print.ts'
import { floatTensor } from '../../../src/graph/tensor.ts'
import {
  floatInitializer,
  linearModel,
  modelBytes,
  numberRecord,
  tensorType,
  textRecord,
  withUnknown,
} from '../../helpers/onnx-files.ts'

const FLOAT = 1
const roundTrip = (bytes: Uint8Array): Uint8Array => new Uint8Array(encodeModel(decodeModel(bytes)))

/** A model with one of everything a file may hold, in the order encode.ts writes it. */
function everything(): Onnx.IModelProto {
  // Fields newer than the schema of onnx-proto, by their numbers in ONNX 1.20.
  const metadata = (field: number) => textRecord(field, 'metadata')
  const attributes: Onnx.IAttributeProto[] = [
    { name: 'int', type: 2, i: 9007199254740991, docString: 'an integer' },
    { name: 'float', type: 1, f: 0.5 },
    { name: 'string', type: 3, s: Uint8Array.of(0xff, 0x61) },
    { name: 'ints', type: 7, ints: [1, -1] },
    { name: 'floats', type: 6, floats: [1, 2] },
    { name: 'strings', type: 8, strings: [Uint8Array.of(97)] },
    { name: 'tensor', type: 4, t: { ...floatInitializer('inner', [2]), docString: 'about it' } },
    { name: 'tensors', type: 9, tensors: [floatInitializer('listed', [2])] },
    { name: 'type', type: 13, tp: tensorType(FLOAT, [2]) },
    {
      name: 'body',
      type: 5,
      g: { name: 'body', node: [{ opType: 'Neg', input: ['x'], output: ['nx'] }], output: [{ name: 'nx' }] },
    },
    { name: 'reference', type: 2, refAttrName: 'outer' },
  ]
  return {
    irVersion: 13,
    producerName: 'exporter',
    producerVersion: '2.0',
    domain: 'org.example',
    modelVersion: 3,
    docString: 'a model',
    graph: withUnknown<Onnx.IGraphProto>(
      {
        name: 'g',
        docString: 'a graph',
        node: [
          withUnknown<Onnx.INodeProto>(
            {
              opType: 'Custom',
              domain: 'org.example',
              name: 'n',
              docString: 'a node',
              input: ['x', '', 'w', 's'],
              output: ['', 'y'],
              attribute: attributes,
            },
            textRecord(8, 'overload'),
            metadata(9),
            textRecord(10, 'device'),
          ),
        ],
        initializer: [withUnknown({ ...floatInitializer('w', [300]), docString: 'weights' }, metadata(16))],
        sparseInitializer: [
          {
            dims: [4],
            values: floatInitializer('s', [1]),
            indices: { dims: [1], dataType: 7, rawData: new Uint8Array(8) },
          },
        ],
        input: [withUnknown({ name: 'x', type: tensorType(FLOAT, ['batch', 2]), docString: 'input' }, metadata(4))],
        output: [{ name: 'y', type: { sequenceType: { elemType: tensorType(FLOAT, []) } } }],
        valueInfo: [withUnknown({ name: 'w', type: tensorType(FLOAT, [300]) }, metadata(4))],
        quantizationAnnotation: [{ tensorName: 'w', quantParameterTensorNames: [{ key: 'SCALE_TENSOR', value: 's' }] }],
      },
      metadata(16),
    ),
    opsetImport: [{ domain: '', version: 23 }],
    metadataProps: [{ key: 'a', value: 'b' }],
    trainingInfo: [
      { initialization: { name: 'i' }, algorithm: { name: 'a' }, initializationBinding: [{ key: 'k', value: 'v' }] },
    ],
    functions: [
      withUnknown<Onnx.IFunctionProto>(
        {
          name: 'f',
          domain: 'org.example',
          node: [{ opType: 'Neg', input: ['a'], output: ['b'] }],
          input: ['a'],
          output: ['b'],
        },
        textRecord(13, 'overload'),
        metadata(14),
      ),
    ],
  }
}

describe('decode, then encode', () => {
  it('gives the same bytes for a model with one of everything', () => {
    const bytes = modelBytes(withUnknown(everything(), textRecord(26, 'configuration')))
    expect(Buffer.from(roundTrip(bytes)).equals(bytes)).toBe(true)
  })

  it('writes values held in typed fields as raw data', () => {
    const model = linearModel()
    model.graph!.initializer![1] = { name: 'b', dims: [32], dataType: FLOAT, floatData: Array<number>(32).fill(1) }
    const [, b] = onnx.ModelProto.decode(roundTrip(modelBytes(model))).graph!.initializer!
    expect([b!.floatData, b!.rawData!.length]).toEqual([[], 128])
  })

  it('keeps 64-bit attributes exact', () => {
    const model = linearModel()
    // INT64_MAX as an attribute record: no JavaScript number holds it.
    const max = Uint8Array.from([0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])
    model.graph!.node![0]!.attribute = [withUnknown<Onnx.IAttributeProto>({ name: 'end', type: 2 }, max)]
    const attribute = onnx.ModelProto.decode(roundTrip(modelBytes(model))).graph!.node![0]!.attribute![0]!
    expect(String(attribute.i)).toBe('9223372036854775807')
  })

  it('forgets what was said of values that are gone', () => {
    const proto = linearModel()
    proto.graph!.valueInfo = [{ name: 'xw', type: tensorType(FLOAT, ['n', 32]) }]
    const model = decodeModel(modelBytes(proto))
    model.graph.nodes[0]!.outputs[0]!.name = 'renamed'
    expect(onnx.ModelProto.decode(encodeModel(model)).graph!.valueInfo).toEqual([])
  })

  it('refuses what points to data files from places we do not read', () => {
    const model = everything()
    model.graph!.sparseInitializer![0]!.values = { name: 's', dims: [1], dataType: FLOAT, dataLocation: 1 }
    expect(() => decodeModel(modelBytes(model))).toThrow(expect.objectContaining({ code: 'E_UNSUPPORTED' }))
  })
})

describe('encode', () => {
  it('does not write tensors that are still on disk as empty ones', () => {
    const g = new Builder()
    const data = { file: '/nowhere', offset: 0, length: 4 }
    g.output(g.op('Neg', [g.initializer('w', { dtype: 'float32', dims: [1], data })]))
    expect(() => encodeModel(newModel(g.graph))).toThrow(expect.objectContaining({ code: 'E_INTERNAL' }))
  })

  it('writes every kind of attribute given in code', () => {
    const g = new Builder()
    const x = g.input('x', 'float32', [1])
    const body = new Builder()
    body.output(body.op('Neg', [x]))
    g.op('Identity', [x], {
      int: 1,
      ints: [1, 2],
      string: 'text',
      float: { type: 'float', value: 0.5 },
      floats: { type: 'floats', value: [0.5, 2] },
      strings: { type: 'strings', value: ['a', 'b'] },
      tensor: floatTensor([1], [3]),
      graph: body.graph,
    })
    const [node] = decodeModel(new Uint8Array(encodeModel(newModel(g.graph)))).graph.nodes
    const values = Object.fromEntries([...node!.attributes].map(([name, { type, value }]) => [name, [type, value]]))
    expect(values).toMatchObject({
      int: ['int', 1],
      ints: ['ints', [1, 2]],
      string: ['string', 'text'],
      float: ['float', 0.5],
      floats: ['floats', [0.5, 2]],
      strings: ['strings', ['a', 'b']],
      tensor: ['tensor', { dtype: 'float32', dims: [1] }],
      graph: ['graph', { nodes: [{ opType: 'Neg' }] }],
    })
  })
})

it('keeps a number record newer than the schema', () => {
  const model = withUnknown(linearModel(), numberRecord(99, 300))
  expect(Buffer.from(roundTrip(modelBytes(model))).includes(Buffer.from(numberRecord(99, 300)))).toBe(true)
})

/** Recipe of a random graph, as numbers: each node reads values by index among those there are. */
interface Plan {
  readonly nodes: readonly {
    readonly reads: readonly number[]
    readonly outputs: number
    readonly attributes: readonly Attribute[]
  }[]
  readonly initializers: number
  readonly body: Plan | undefined
}

const text = fc.string({ maxLength: 6 })
const attribute: fc.Arbitrary<Attribute> = fc.oneof(
  fc.maxSafeInteger().map(value => ({ type: 'int' as const, value })),
  fc.float({ noNaN: true }).map(value => ({ type: 'float' as const, value })),
  fc.array(fc.maxSafeInteger(), { maxLength: 3 }).map(value => ({ type: 'ints' as const, value })),
  fc.array(fc.float({ noNaN: true }), { maxLength: 3 }).map(value => ({ type: 'floats' as const, value })),
  text.map(value => ({ type: 'string' as const, value })),
  fc.array(text, { maxLength: 3 }).map(value => ({ type: 'strings' as const, value })),
  fc
    .array(fc.float({ noNaN: true }), { maxLength: 9 })
    .map(v => ({ type: 'tensor' as const, value: floatTensor([v.length], v) })),
)
const plan = (depth: number): fc.Arbitrary<Plan> =>
  fc.record({
    nodes: fc.array(
      fc.record({
        reads: fc.array(fc.integer({ min: -1, max: 50 }), { maxLength: 4 }),
        outputs: fc.integer({ min: 0, max: 3 }),
        attributes: fc.array(attribute, { maxLength: 3 }),
      }),
      { maxLength: 8 },
    ),
    initializers: fc.nat(3),
    body: depth === 0 ? fc.constant(undefined) : fc.option(plan(depth - 1), { nil: undefined }),
  })

function graphOf(plan: Plan, outer: readonly Value[], prefix: string): Graph {
  const graph = new Graph(`${prefix}graph`)
  graph.inputs = [new Value(`${prefix}x`, 'float32', ['n', 2, undefined])]
  graph.initializers = Array.from({ length: plan.initializers }, (_, i) => {
    return new Value(`${prefix}w${i}`, 'float32', [2], floatTensor([2], [i, 1]))
  })
  const values = [...outer, ...graph.inputs, ...graph.initializers]
  plan.nodes.forEach(({ reads, outputs, attributes }, i) => {
    const made = Array.from({ length: outputs }, (_, o) => (o === 1 ? undefined : new Value(`${prefix}v${i}_${o}`)))
    const entries = new Map(attributes.map((each, a) => [`a${a}`, each]))
    if (i === 0 && plan.body) entries.set('body', { type: 'graph', value: graphOf(plan.body, values, `${prefix}i_`) })
    const inputs = reads.map(index => (index < 0 ? undefined : values[index % values.length]))
    graph.nodes.push(new Node('Op', inputs, made, entries, i % 2 ? 'com.x' : '', `${prefix}n${i}`))
    for (const value of made) if (value) values.push(value)
  })
  graph.outputs = values.slice(-1)
  return graph
}

/** All attributes, bodies included. */
const attributesOf = (graph: Graph): unknown[] =>
  graph.nodes.map(node =>
    [...node.attributes].map(([name, { type, value }]) => [name, type, type === 'graph' ? attributesOf(value) : value]),
  )

describe('random models', () => {
  it('are the same after encoding and decoding, and again give the same bytes', () => {
    fc.assert(
      fc.property(plan(2), plan => {
        const model: Model = newModel(graphOf(plan, [], ''))
        model.metadata.set('key', 'value')
        const bytes = new Uint8Array(encodeModel(model))
        const decoded = decodeModel(bytes)
        expect(print(decoded.graph)).toBe(print(model.graph))
        expect(attributesOf(decoded.graph)).toMatchObject(attributesOf(model.graph) as object)
        expect(decoded).toMatchObject({
          irVersion: model.irVersion,
          opsetImports: model.opsetImports,
          metadata: model.metadata,
        })
        expect(Buffer.from(encodeModel(decoded)).equals(bytes)).toBe(true)
      }),
      { numRuns: 300, seed: 11 },
    )
  })
})
