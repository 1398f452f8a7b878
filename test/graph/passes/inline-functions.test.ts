/** @file Functions of a file: read, inlined as onnxruntime inlines them, and written back untouched. */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { dependents } from '../../../src/graph/dependencies.ts'
import { loadModel } from '../../../src/graph/onnx-file/load.ts'
import { normalize } from '../../../src/graph/passes/normalize.ts'
import { type Onnx, onnx, setUnknownFields } from '../../../src/graph/onnx-file/onnx-proto.ts'
import { saveModel } from '../../../src/graph/onnx-file/save.ts'
import { floatTensor, readElements, type Tensor } from '../../../src/graph/tensor.ts'
import { openModel, runGraph } from '../../../src/kernels/session.ts'
import { findLinears } from '../../../src/quant/find/linears.ts'
import { floatInitializer, modelBytes, tensorType } from '../../helpers/onnx-files.ts'
import { testFolder } from '../../helpers/test-folder.ts'
import { recordHeader } from '../../../src/graph/onnx-file/wire.ts'

const { FLOAT, INT } = onnx.AttributeProto.AttributeType
const reference = (name: string, refAttrName: string, type: number): Onnx.IAttributeProto => ({
  name,
  refAttrName,
  type,
})

/** gate(x, w, b?) = LeakyRelu(x, alpha = slope) with Softmax over `axis` of x w (+ b); slope is 0.25 unless the caller says. */
function gate(): Onnx.IFunctionProto {
  const slope = onnx.AttributeProto.encode({ name: 'slope', type: FLOAT, f: 0.25 }).finish()
  const message: Onnx.IFunctionProto = {
    name: 'gate',
    domain: 'pkg.test',
    input: ['x', 'w'],
    output: ['y', 'unread'],
    attribute: ['axis'],
    opsetImport: [
      { domain: '', version: 18 },
      { domain: 'pkg.test', version: 1 },
    ],
    node: [
      { opType: 'MatMul', input: ['x', 'w'], output: ['xw'], name: 'product' },
      { opType: 'Softmax', input: ['xw'], output: ['soft'], name: 'soft', attribute: [reference('axis', 'axis', INT)] },
      {
        opType: 'scaled',
        domain: 'pkg.test',
        input: ['soft'],
        output: ['y'],
        attribute: [reference('by', 'slope', FLOAT)],
      },
      { opType: 'Mystery', domain: 'pkg.nobody', input: ['x'], output: ['unread'] },
    ],
  }
  // attribute_proto, field 11: newer than the schema of onnx-proto.
  setUnknownFields(message, new Uint8Array(Buffer.concat([recordHeader(11, slope.length), slope])))
  return message
}

/** A function that another one calls: x * by. */
const scaled: Onnx.IFunctionProto = {
  name: 'scaled',
  domain: 'pkg.test',
  input: ['x'],
  output: ['y'],
  attribute: ['by'],
  opsetImport: [{ domain: '', version: 18 }],
  node: [
    { opType: 'Constant', input: [], output: ['by'], name: 'by', attribute: [reference('value_float', 'by', FLOAT)] },
    { opType: 'Mul', input: ['x', 'by'], output: ['y'], name: 'mul' },
  ],
}

function model(functions: Onnx.IFunctionProto[] = [gate(), scaled]): Onnx.IModelProto {
  const call = (name: string, input: string[], output: string, attribute: Onnx.IAttributeProto[]): Onnx.INodeProto => ({
    ...{ opType: 'gate', domain: 'pkg.test', name, input, output: [output], attribute },
  })
  return {
    irVersion: 9,
    producerName: 'test',
    opsetImport: [
      { domain: '', version: 18 },
      { domain: 'pkg.test', version: 1 },
    ],
    graph: {
      name: 'calls',
      input: [{ name: 'x', type: tensorType(FLOAT, ['n', 4]) }],
      output: [{ name: 'y', type: tensorType(FLOAT, ['n', 4]) }],
      initializer: [floatInitializer('w', [4, 4])],
      node: [
        call('first', ['x', 'w'], 'h', [{ name: 'axis', type: INT, i: -1 }]),
        call('second', ['h', 'w'], 'y', [
          { name: 'axis', type: INT, i: 0 },
          { name: 'slope', type: FLOAT, f: 2 },
        ]),
      ],
    },
    functions,
  }
}

function write(message: Onnx.IModelProto): string {
  const path = join(testFolder(), 'model.onnx')
  writeFileSync(path, modelBytes(message))
  return path
}

const x = floatTensor(
  [3, 4],
  Array.from({ length: 12 }, (_, i) => Math.sin(i)),
)

const workingCopy = (path: string) =>
  normalize(loadModel(path), {
    ...{ fixedInputs: new Map(), shapes: new Map([['x', [3, 4]]]), outputs: ['y'] },
    evaluate: graph => runGraph(graph, {}, { optimization: 'disabled' }),
  })

/** softmax(x w) * slope along an axis, by hand: what onnxruntime would give, had it the function nobody reads. */
function expected(): number[] {
  const w = Array.from({ length: 16 }, (_, i) => i)
  const step = (input: readonly number[], axis: 0 | 1, slope: number) => {
    const xw = input.map((_, at) => {
      const [row, column] = [Math.floor(at / 4), at % 4]
      return [0, 1, 2, 3].reduce((sum, k) => sum + input[row * 4 + k]! * w[k * 4 + column]!, 0)
    })
    const group = (at: number) =>
      xw.filter((_, i) => (axis === 1 ? Math.floor(i / 4) === Math.floor(at / 4) : i % 4 === at % 4))
    return xw.map((value, at) => {
      const largest = Math.max(...group(at))
      return (slope * Math.exp(value - largest)) / group(at).reduce((sum, other) => sum + Math.exp(other - largest), 0)
    })
  }
  return step(step([...(readElements(x) as Float32Array)], 1, 0.25), 0, 2)
}

function expectClose(y: Tensor): void {
  const numbers = expected()
  ;(readElements(y) as Float32Array).forEach((value, i) => expect(value).toBeCloseTo(numbers[i]!, 5))
}

describe('local functions', () => {
  test('are copied as their nodes, with attributes given, by default, and handed on; only what is read of them', async () => {
    const { graph } = await workingCopy(write(model()))
    expect(graph.nodes.map(node => node.kind)).toEqual(['MatMul', 'Softmax', 'Mul', 'MatMul', 'Softmax', 'Mul'])
    expect(graph.nodes.map(node => node.origin!.name)).toEqual([...Array(3).fill('first'), ...Array(3).fill('second')])
    const [y] = Object.values(await runGraph(graph, { x }))
    expectClose(y!)
    expect(findLinears(graph.nodes, dependents(graph.nodes, graph.inputs)).skipped.map(({ reason }) => reason)).toEqual(
      ['its weight is inside pkg.test.gate', 'its weight is inside pkg.test.gate'],
    )
  })

  test('stay in the file, which onnxruntime still opens', async () => {
    const whole = { ...gate(), output: ['y'], node: gate().node!.slice(0, 3) }
    setUnknownFields(whole, new Uint8Array(0))
    const message = model([whole, scaled])
    message.graph!.node![0]!.attribute!.push({ name: 'slope', type: FLOAT, f: 0.25 })
    whole.attribute = ['axis', 'slope']
    const loaded = loadModel(write(message))
    const path = join(testFolder(), 'again.onnx')
    await saveModel(loaded, path)
    expect([...loadModel(path).functions!.keys()]).toEqual(['pkg.test.gate', 'pkg.test.scaled'])
    const session = await openModel(path)
    const { y } = await session.run({ x })
    await session.release()
    expectClose(y!)
  })

  test('refuses branches inside, and functions that call themselves', async () => {
    const branching = gate()
    branching.node![1] = {
      ...{ opType: 'If', name: 'choice', input: ['x'], output: ['soft'] },
      attribute: [{ name: 'then_branch', type: onnx.AttributeProto.AttributeType.GRAPH, g: { name: 'body' } }],
    }
    await expect(workingCopy(write(model([branching, scaled])))).rejects.toThrow(
      'If "choice" has branches inside the function pkg.test.gate that "first" calls',
    )
    const endless = { ...scaled, node: [{ ...scaled.node![1]!, opType: 'scaled', domain: 'pkg.test', input: ['x'] }] }
    await expect(workingCopy(write(model([gate(), endless])))).rejects.toThrow('pkg.test.scaled calls itself')
  })

  test('are checked like the graph itself: what nothing makes is refused at the door', () => {
    const open = { ...scaled, output: ['nowhere'] }
    expect(() => loadModel(write(model([gate(), open])))).toThrow(
      'the graph "scaled" is not sound: the result of "scaled" reads "nowhere", which nothing makes',
    )
  })
})
