/** @file Linears in the QDQ form: the model's own products read DequantizeLinear, and stock onnxruntime's fusion with them is known. */

import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { Graph, type Model, Node, opsetOf, Value } from '../../../src/graph/ir.ts'
import { loadModel } from '../../../src/graph/onnx-file/load.ts'
import { saveModel } from '../../../src/graph/onnx-file/save.ts'
import { readElements, tensorOf } from '../../../src/graph/tensor.ts'
import { packDequantize } from '../../../src/kernels/pack/dequantize-linear.ts'
import type { WeightQuantizer } from '../../../src/kernels/qparams.ts'
import { openModel, type SessionOptions, type Tensors } from '../../../src/kernels/session.ts'
import { dequantize, quantizeWeight } from '../../../src/kernels/weights.ts'
import { type ExportedLinear, exportLinears } from '../../../src/quant/export/export-linears.ts'
import { quantizeModel } from '../../../src/quant/quantize-model.ts'
import { checkEmitted } from '../../helpers/emitted.ts'
import { logitsOf, relativeError as worstLogit } from '../../helpers/compare-logits.ts'
import { writeMergedModel } from '../../helpers/merged-model.ts'
import { tempDir } from '../../helpers/temp-dir.ts'
import { testFolder } from '../../helpers/test-folder.ts'
import { noise } from '../../kernels/weights.ts'
import { activations, relativeError, UserGraph, product } from './user-graph.ts'
import { PLAIN } from '../../helpers/method.ts'

const folder = tempDir()
const ROWS = 4
let saved = 0

type Given = Partial<WeightQuantizer> & { readonly K: number; readonly N: number }

function weightFor({ K, N, ...given }: Given) {
  const quantizer: WeightQuantizer = { bits: 4, group: 32, symmetric: false, scaleDtype: 'float32', ...given }
  const w = noise(K * N, quantizer.bits + 1).map((x, i) => (x + (i % 3) * 0.4) * (1 + (i % N)))
  const codes = { ...quantizeWeight(w, K, N, quantizer), ...quantizer, K, N }
  return { packed: packDequantize(codes), w: dequantize(codes, K, N, quantizer.group) }
}

const exported = (model: Model, linears: readonly ExportedLinear[]) =>
  exportLinears(model, linears, { accuracyLevel: 0, format: 'qdq' })

async function run(model: Model, feeds: Tensors, options: SessionOptions): Promise<Record<string, Float32Array>> {
  const path = join(folder, `${saved++}.onnx`)
  await saveModel(model, path)
  checkEmitted(path)
  const session = await openModel(path, { threads: 1, ...options })
  try {
    const entries = Object.entries(await session.run(feeds))
    return Object.fromEntries(entries.map(([name, tensor]) => [name, readElements(tensor) as Float32Array]))
  } finally {
    await session.release()
  }
}

const EXACT = { qdqAccuracyLevel: 0 } as const

describe('products of the model with dequantized weights', () => {
  const cases = [2, 3, 4, 6, 8].flatMap(bits =>
    [false, true].flatMap(symmetric => [16, 32, 1000].map(group => ({ bits, symmetric, group }))),
  )

  test('in float32 they are exact; stock onnxruntime rounds their inputs to 8 bits', async () => {
    const [K, N] = [72, 10]
    const user = new UserGraph({ opset: 17 })
    const x = user.input('x', [ROWS, K])
    const numbers = activations(ROWS, K, 3)
    const expected = new Map<string, Float64Array>()
    const linears = cases.map((quantizer): ExportedLinear => {
      const name = `w${quantizer.bits}${quantizer.symmetric}${quantizer.group}`
      const { packed, w } = weightFor({ K, N, ...quantizer })
      expected.set(name, product(numbers, w, K, N))
      const y = user.op(
        'MatMul',
        [x, user.constant(`${name}.weight`, [K, N], new Float32Array(K * N))],
        `${name}_product`,
      )
      user.output(y, name)
      return { origin: y.producer!, packed, inFeatures: K, outFeatures: N }
    })
    const products = linears.map(({ origin }) => origin)
    exported(user.model, linears)
    expect(opsetOf(user.model)).toBe(21)
    expect(user.graph.nodes.filter(({ opType }) => opType === 'MatMul')).toEqual(products)
    expect(user.count('DequantizeLinear')).toBe(cases.length)
    expect(user.graph.initializers.some(({ name }) => name.endsWith('.weight'))).toBe(false)
    const feeds = { x: tensorOf('float32', [ROWS, K], numbers) }
    const exact = await run(user.model, feeds, EXACT)
    const level4 = await run(user.model, feeds, { qdqAccuracyLevel: 4 })
    const stock = await run(user.model, feeds, {})
    for (const [name, y] of expected) {
      expect(relativeError(exact[name]!, y), name).toBeLessThan(1e-6)
      const error = relativeError(stock[name]!, y)
      expect(error, name).toBeGreaterThan(3e-4)
      expect(error, name).toBeLessThan(0.02)
      expect(stock[name], name).toEqual(level4[name])
    }
  })

  test('a Gemm with transB keeps its bias and its name; a bias that is added comes behind it', async () => {
    const [K, N] = [32, 6]
    const user = new UserGraph({ opset: 13 })
    const x = user.input('x', [ROWS, K])
    const bias = noise(N, 9)
    const addedBias = noise(N, 10)
    const weight = user.constant('weight', [N, K], new Float32Array(N * K))
    const gemm = user.op('Gemm', [x, weight, user.constant('bias', [N], bias)], 'gemm', { transB: 1 })
    user.output(gemm, 'y')
    const { packed, w } = weightFor({ K, N, group: 16, symmetric: true })
    const origin = gemm.producer!
    exported(user.model, [{ origin, packed, addedBias, inFeatures: K, outFeatures: N }])
    expect(user.graph.nodes.map(({ opType, name }) => `${opType} ${name}`)).toEqual([
      'DequantizeLinear gemm_weight_dequantized',
      'Gemm gemm',
      'Add gemm_shifted',
      'Identity y',
    ])
    expect([origin.int('transB', 0), origin.inputs.map(input => input!.name)]).toEqual([
      0,
      ['x', 'weight_dequantized', 'bias'],
    ])
    const numbers = activations(ROWS, K, 7)
    const { y } = await run(user.model, { x: tensorOf('float32', [ROWS, K], numbers) }, EXACT)
    const sum = bias.map((value, n) => value + addedBias[n]!)
    expect(relativeError(y!, product(numbers, w, K, N, sum))).toBeLessThan(1e-6)
  })

  test.each([true, false])('a float16 model has float16 scales and no casts; types known: %s', async typed => {
    const [K, N] = [64, 8]
    const user = new UserGraph({ opset: 18, dtype: 'float16', typed })
    const x = user.input('x', [ROWS, K])
    const y = user.op('MatMul', [x, user.constant('weight', [K, N], new Float32Array(K * N))], 'product')
    user.output(y, 'y')
    const casts = user.count('Cast')
    const { packed, w } = weightFor({ K, N, group: 32, scaleDtype: 'float16' })
    exported(user.model, [{ origin: y.producer!, packed, inFeatures: K, outFeatures: N }])
    expect(user.count('Cast')).toBe(casts)
    const numbers = activations(ROWS, K, 5)
    const results = await run(user.model, { x: tensorOf('float32', [ROWS, K], numbers) }, EXACT)
    expect(relativeError(results.y!, product(numbers, w, K, N))).toBeLessThan(1e-3)
  })

  test.each([
    [8, 64, 13, 13],
    [8, 32, 13, 21],
    [4, 64, 20, 21],
    [4, 32, 23, 23],
  ])('%i bits in groups of %i of 64: a model of opset %i is written in %i', async (bits, group, before, after) => {
    const [K, N] = [64, 8]
    const user = new UserGraph({ opset: before })
    user.model.irVersion = 8
    const x = user.input('x', [ROWS, K])
    const y = user.op('MatMul', [x, user.constant('weight', [K, N], new Float32Array(K * N))], 'product')
    user.output(y, 'y')
    const { packed, w } = weightFor({ K, N, bits, group })
    exported(user.model, [{ origin: y.producer!, packed, inFeatures: K, outFeatures: N }])
    expect([opsetOf(user.model), user.model.irVersion]).toEqual([after, before < after ? 10 : 8])
    const numbers = activations(ROWS, K, 6)
    const results = await run(user.model, { x: tensorOf('float32', [ROWS, K], numbers) }, EXACT)
    expect(relativeError(results.y!, product(numbers, w, K, N))).toBeLessThan(1e-6)
  })

  test('a product in a body reads a weight that is dequantized before it', async () => {
    const [K, N] = [32, 4]
    const user = new UserGraph({ opset: 18 })
    const x = user.input('x', [ROWS, K])
    const flag = new Value('flag', 'bool', [])
    user.graph.inputs.push(flag)
    const stored = user.constant('weight', [K, N], new Float32Array(K * N))
    const branch = (name: string) => {
      const body = new Graph(name)
      const y = new Value(`${name}_y`, 'float32')
      body.nodes = [new Node('MatMul', [x, stored], [y], new Map(), '', `${name}_product`)]
      body.outputs = [y]
      return body
    }
    const bodies = { then_branch: branch('then'), else_branch: branch('else') }
    const y = new Value('y', 'float32')
    const attributes = Object.entries(bodies).map(([name, value]) => [name, { type: 'graph', value }] as const)
    user.graph.nodes.push(new Node('If', [flag], [y], new Map(attributes), '', 'if'))
    user.graph.outputs.push(y)
    const { packed, w } = weightFor({ K, N, group: 16 })
    const [origin, other] = [bodies.then_branch.nodes[0]!, bodies.else_branch.nodes[0]!]
    exported(user.model, [{ origin, otherBranch: [other], packed, inFeatures: K, outFeatures: N }])
    expect(user.graph.nodes.map(({ opType }) => opType)).toEqual(['DequantizeLinear', 'If'])
    const numbers = activations(ROWS, K, 2)
    for (const value of [0, 1]) {
      const feeds = {
        x: tensorOf('float32', [ROWS, K], numbers),
        flag: tensorOf('bool', [], Uint8Array.of(value)),
      }
      // Not fused, whatever the level is.
      const results = await run(user.model, feeds, {})
      expect(relativeError(results.y!, product(numbers, w, K, N))).toBeLessThan(1e-6)
    }
  })
})

describe('whole models', () => {
  const common = { ...PLAIN, lwc: false, scheme: 'w4a16g32' } as const

  test('a merged decoder stores each weight once, and both branches give what MatMulNBits gives', async () => {
    const work = testFolder()
    const model = await writeMergedModel(work)
    const [qdq, nbits] = [join(work, 'qdq.onnx'), join(work, 'nbits.onnx')]
    await quantizeModel({ ...common, model, output: qdq, format: 'qdq' })
    await quantizeModel({ ...common, model, output: nbits })
    checkEmitted(qdq)
    const { graph } = loadModel(qdq)
    expect(graph.initializers.filter(({ dtype }) => dtype === 'uint4').length).toBe(2 * 21)
    expect(graph.nodes.filter(({ opType }) => opType === 'DequantizeLinear').length).toBe(21)
    for (const flag of [0, 1])
      expect(worstLogit(await logitsOf(nbits, { flag }), await logitsOf(qdq, { flag }))).toBeLessThan(1e-5)
  })

  test('lm_head has the form too; the embedding is looked up by standard operators', async () => {
    const model = join(import.meta.dirname, '../../../fixtures/tiny-llama')
    const work = testFolder()
    const output = join(work, 'qdq.onnx')
    const report = await quantizeModel({ ...common, model, output, format: 'qdq', lmHead: 8, embedding: 8 })
    expect(report.notes.join('\n')).toContain('session.qdq_matmulnbits_accuracy_level')
    checkEmitted(output)
    const { graph } = loadModel(output)
    const count = (kind: string) => graph.nodes.filter(node => node.kind === kind).length
    expect(count('DequantizeLinear')).toBe(22)
    expect(graph.nodes.filter(({ domain }) => domain === 'com.microsoft')).toEqual([])
    const nbits = join(work, 'nbits.onnx')
    await quantizeModel({ ...common, model, output: nbits, lmHead: 8, embedding: 8 })
    expect(worstLogit(await logitsOf(nbits), await logitsOf(output, {}, EXACT))).toBeLessThan(1e-5)
    expect(worstLogit(await logitsOf(nbits), await logitsOf(output))).toBeGreaterThan(1e-4)
  })

  test('a node that cannot be written in opset 21 is refused before anything is learned', async () => {
    const model = loadModel(join(import.meta.dirname, '../../../fixtures/tiny-llama/model.onnx'))
    const work = testFolder()
    const input = new Value('spectrum_input', 'float32', [1, 8, 1], tensorOf('float32', [1, 8, 1], noise(8, 1)))
    model.graph.initializers.push(input)
    model.graph.nodes.unshift(new Node('DFT', [input], [new Value('spectrum')], new Map(), '', 'spectrum'))
    model.opsetImports = model.opsetImports.map(each => (each.domain === '' ? { ...each, version: 18 } : each))
    const path = join(work, 'model.onnx')
    await saveModel(model, path)
    const blocks: string[] = []
    const run = quantizeModel(
      { ...common, model: path, output: join(work, 'qdq.onnx'), format: 'qdq' },
      { onEvent: ({ type }) => blocks.push(type) },
    )
    await expect(run).rejects.toMatchObject({
      code: 'E_UNSUPPORTED',
      message: 'the model is written in opset 18 and needs 21: DFT "spectrum" means something else there',
    })
    expect(blocks).toEqual([])
  })

  test.each([
    [{ scheme: 'w8a8' }, 'format', 'cannot hold activations that are quantized per token'],
    [{ scheme: 'w4a16', accuracyLevel: 4 }, 'accuracyLevel', 'is an attribute of MatMulNBits'],
  ] as const)('%o with it is refused', async (given, key, message) => {
    const run = quantizeModel({ model: 'model.onnx', format: 'qdq', ...given })
    await expect(run).rejects.toMatchObject({ code: 'E_USAGE', option: key })
    await expect(run).rejects.toThrow(message)
  })
})
