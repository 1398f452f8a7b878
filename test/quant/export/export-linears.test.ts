/** @file Linears with quantized activations in the user's graph give what quantizing and back in plain TypeScript gives. */

import { join } from 'node:path'
import * as ort from 'onnxruntime-node'
import { describe, expect, test } from 'vitest'
import type { Value } from '../../../src/graph/ir.ts'
import { type Model, type Node } from '../../../src/graph/ir.ts'
import { loadModel } from '../../../src/graph/onnx-file/load.ts'
import { saveModel } from '../../../src/graph/onnx-file/save.ts'
import { tensorOf } from '../../../src/graph/tensor.ts'
import { dequantize, quantizeWeight } from '../../../src/kernels/weights.ts'
import type { ActivationQuantizer } from '../../../src/kernels/tokens.ts'
import { packMatMulNBits } from '../../../src/kernels/pack/matmul-nbits.ts'
import { packPlanes } from '../../../src/kernels/pack/planes.ts'
import type { WeightQuantizer } from '../../../src/kernels/qparams.ts'
import { type ExportedLinear, exportLinears } from '../../../src/quant/export/export-linears.ts'
import { tempDir } from '../../helpers/temp-dir.ts'
import { noise } from '../../kernels/weights.ts'
import { activations, fakeQuantizeRows, relativeError, runModel, UserGraph, product } from './user-graph.ts'

const folder = tempDir()
const ROWS = 4
const A8: ActivationQuantizer = { bits: 8, symmetric: false }

type Form = 'integer' | 'portable' | 'nbits'
const FORMS: readonly Form[] = ['integer', 'portable', 'nbits']
const exported = (model: Model, linears: readonly ExportedLinear[], form: Form) =>
  exportLinears(model, linears, { accuracyLevel: 4, format: form === 'portable' ? 'portable' : 'integer' })

interface Case {
  readonly K: number
  readonly N: number
  readonly form: Form
  readonly bits: number
  readonly symmetric?: boolean
  readonly half?: boolean
}

/** A weight whose columns differ in size and center, quantized: packed for `form`, and as the numbers it stands for. */
function weightFor({ K, N, form, bits, symmetric = false, half = false }: Case) {
  const quantizer: WeightQuantizer = {
    ...{ bits, symmetric, group: form === 'nbits' ? 16 : K },
    scaleDtype: form === 'nbits' && half ? 'float16' : 'float32',
  }
  const w = noise(K * N, bits + 1).map((x, i) => (x + (i % 3) * 0.4) * (1 + (i % N)))
  const codes = { ...quantizeWeight(w, K, N, quantizer), ...quantizer, K, N }
  return {
    packed: form === 'nbits' ? packMatMulNBits(codes) : packPlanes(codes),
    w: dequantize(codes, K, N, quantizer.group),
  }
}

/** Adds x * W as the user wrote it: a float weight that is to go. */
function addLinear(user: UserGraph, x: Value, name: string, K: number, N: number): Node {
  user.output(user.op('MatMul', [x, user.constant(`${name}.weight`, [K, N], new Float32Array(K * N))], name), name)
  return user.graph.nodes.findLast(node => node.opType === 'MatMul')!
}

describe.each(FORMS)('%s', form => {
  test('weights of 2 to 8 bits with activations of 4 to 8, symmetric or not, N odd, K like nothing', async () => {
    const [K, N] = [37, 11]
    const user = new UserGraph()
    const x = user.input('x', [ROWS, K])
    const numbers = activations(ROWS, K, 3)
    const linears: ExportedLinear[] = []
    const expected: Record<string, Float64Array> = {}
    for (const actBits of [4, 5, 6, 7, 8]) {
      for (const symmetricActivations of [false, true]) {
        const activation = { bits: actBits, symmetric: symmetricActivations }
        const input = fakeQuantizeRows(numbers, K, activation)
        for (const bits of [2, 3, 4, 5, 6, 7, 8]) {
          for (const symmetric of [false, true]) {
            const name = `w${bits}${symmetric}a${actBits}${symmetricActivations}`
            const { packed, w } = weightFor({ K, N, form, bits, symmetric })
            linears.push({ origin: addLinear(user, x, name, K, N), packed, activation, inFeatures: K, outFeatures: N })
            expected[name] = product(input, w, K, N)
          }
        }
      }
    }
    exported(user.model, linears, form)
    expect(user.graph.initializers.some(({ name }) => name.endsWith('.weight'))).toBe(false)
    const results = await runModel(user.model, { x: tensorOf('float32', [ROWS, K], numbers) }, folder)
    expect(Object.keys(results).length).toBe(140)
    for (const [name, y] of Object.entries(results)) expect(relativeError(y, expected[name]!), name).toBeLessThan(1e-6)
  })

  test.each([
    { shape: [5], opset: 13 },
    { shape: [3, 20], opset: 11 },
    { shape: [2, 3, 20], opset: 13 },
    { shape: [2, 1, 3, 20], opset: 17 },
    { shape: [2, 3, 20], opset: 18 },
    { shape: [2, 3, 20], opset: 21 },
    { shape: [3, 20], opset: 23 },
  ])('x $shape in opset $opset', async ({ shape, opset }) => {
    const [K, N] = [shape.at(-1)!, 8]
    const user = new UserGraph({ opset })
    const x = user.input(
      'x',
      shape.map((_, i) => (i === shape.length - 1 ? K : `d${i}`)),
    )
    const bits = [2, 4, 6, 8]
    const weights = bits.map(width => weightFor({ K, N, form, bits: width }))
    const linears = weights.map(({ packed }, i) => ({
      ...{ origin: addLinear(user, x, `y${i}`, K, N), packed, activation: A8, inFeatures: K, outFeatures: N },
    }))
    exported(user.model, linears, form)
    const numbers = activations(shape.reduce((a, b) => a * b) / K, K, 5)
    const results = await runModel(user.model, { x: tensorOf('float32', shape, numbers) }, folder)
    const input = fakeQuantizeRows(numbers, K, A8)
    weights.forEach(({ w }, i) =>
      expect(relativeError(results[`y${i}`]!, product(input, w, K, N)), `${bits[i]} bits`).toBeLessThan(1e-6),
    )
  })

  test.each([true, false])('a Gemm with transB and bias, and a bias that is added; types known: %s', async typed => {
    const [K, N] = [24, 6]
    const user = new UserGraph({ opset: 13, typed })
    const x = user.input('x', [ROWS, K])
    const bias = noise(N, 9)
    const weight = user.constant('weight', [N, K], new Float32Array(N * K))
    const gemm = user.op('Gemm', [x, weight, user.constant('bias', [N], bias)], 'gemm', { transB: 1 })
    user.output(gemm, 'y')
    const origin = gemm.producer!
    const { packed, w } = weightFor({ K, N, form, bits: 4 })
    const addedBias = noise(N, 10)
    exported(user.model, [{ origin, packed, activation: A8, addedBias, inFeatures: K, outFeatures: N }], form)
    const numbers = activations(ROWS, K, 7)
    const { y } = await runModel(user.model, { x: tensorOf('float32', [ROWS, K], numbers) }, folder)
    const sum = bias.map((value, n) => value + addedBias[n]!)
    expect(relativeError(y!, product(fakeQuantizeRows(numbers, K, A8), w, K, N, sum))).toBeLessThan(1e-6)
    expect(user.graph.initializers.map(({ name }) => name)).toContain('bias')
  })

  test.each([true, false])('a float16 model computes in float32 and rounds once; types known: %s', async typed => {
    const [K, N] = [40, 9]
    const user = new UserGraph({ dtype: 'float16', typed })
    const x = user.input('x', [ROWS, K])
    const { packed, w } = weightFor({ K, N, form, bits: 4, half: true })
    const shift = Float32Array.from({ length: N }, (_, n) => n / 4)
    const linears = ['a', 'b'].map(name => ({
      ...{ origin: addLinear(user, x, name, K, N), packed, activation: A8, inFeatures: K, outFeatures: N },
      ...(name === 'b' && { addedBias: shift }),
    }))
    exported(user.model, linears, form)
    const numbers = activations(ROWS, K, 8)
    const { a, b } = await runModel(user.model, { x: tensorOf('float32', [ROWS, K], numbers) }, folder)
    const expected = product(fakeQuantizeRows(numbers, K, A8), w, K, N)
    // Half a unit in the last place of float16, and a little for sums that fall beside a tie.
    a!.forEach((value, i) =>
      expect(Math.abs(value - expected[i]!)).toBeLessThan(Math.abs(expected[i]!) * 4.9e-4 + 1e-5),
    )
    const shifted = expected.map((value, i) => value + shift[i % N]!)
    expect(relativeError(b!, shifted)).toBeLessThan(5e-4)
    // One Cast of x to float32 for both, one back for each product.
    const known = user.graph.nodes.filter(node => node.opType === 'Cast' && node.inputs[0]!.name === 'x_cast_output_0')
    expect(known.length).toBe(1)
  })

  test('x is quantized once for all linears that read it with the same quantizer', () => {
    const [K, N] = [32, 8]
    const user = new UserGraph()
    const x = user.input('x', [ROWS, K])
    const other = user.op('Neg', [x], 'other')
    const readers: [Value, number][] = [
      [x, 8],
      [x, 8],
      [other, 8],
      [x, 8],
      [x, 4],
    ]
    const linears = readers.map(([input, bits], i) => ({
      ...{ origin: addLinear(user, input, `l${i}`, K, N), packed: weightFor({ K, N, form, bits: 4 }).packed },
      ...{ activation: { bits, symmetric: false }, inFeatures: K, outFeatures: N },
    }))
    // Not in the graph's order.
    exported(user.model, linears.toReversed(), form)
    for (const opType of ['ReduceMax', 'ReduceMin', 'Clip']) {
      const count = user.graph.nodes.filter(node => node.opType === opType).length
      expect(count, opType).toBe(opType === 'Clip' ? 6 : 3)
    }
    expect(user.count('MatMul')).toBe(form === 'portable' ? 5 : 0)
    expect(user.count('MatMulIntegerToFloat')).toBe(form === 'integer' ? 5 : 0)
    expect(user.count('MatMulNBits')).toBe(form === 'nbits' ? 5 : 0)
    expect(user.graph.nodes.every(node => node.int('accuracy_level', 0) === 0)).toBe(true)
    expect(user.model.opsetImports.map(({ domain }) => domain)).toEqual(
      form === 'portable' ? [''] : ['', 'com.microsoft'],
    )
  })

  test('nodes without names, and linears that share a weight', async () => {
    const [K, N] = [16, 4]
    const user = new UserGraph()
    const x = user.input('x', [ROWS, K])
    const shared = user.constant('shared', [K, N], new Float32Array(K * N))
    const linears = ['a', 'b'].map(name => {
      const y = user.op('MatMul', [x, shared], name)
      user.output(y, `${name}_out`)
      y.producer!.name = ''
      const { packed } = weightFor({ K, N, form, bits: 5 })
      return { origin: y.producer!, packed, activation: A8, inFeatures: K, outFeatures: N }
    })
    exported(user.model, linears, form)
    const numbers = activations(ROWS, K, 2)
    const results = await runModel(user.model, { x: tensorOf('float32', [ROWS, K], numbers) }, folder)
    const { w } = weightFor({ K, N, form, bits: 5 })
    const expected = product(fakeQuantizeRows(numbers, K, A8), w, K, N)
    for (const name of ['a_out', 'b_out']) expect(relativeError(results[name]!, expected)).toBeLessThan(1e-6)
  })
})

test('planes without quantized activations are float products', async () => {
  const [K, N] = [20, 5]
  const user = new UserGraph()
  const x = user.input('x', [ROWS, K])
  const { packed, w } = weightFor({ K, N, form: 'portable', bits: 3 })
  exported(user.model, [{ origin: addLinear(user, x, 'y', K, N), packed, inFeatures: K, outFeatures: N }], 'integer')
  const numbers = activations(ROWS, K, 2)
  const { y } = await runModel(user.model, { x: tensorOf('float32', [ROWS, K], numbers) }, folder)
  expect(relativeError(y!, product(numbers, w, K, N))).toBeLessThan(1e-6)
})

test('sums of many products stay exact', async () => {
  // All codes at their ends: 255 * -128 in every product of the first column.
  const [K, N] = [20000, 2]
  const user = new UserGraph()
  const x = user.input('x', [1, K])
  const codes = Uint8Array.from({ length: K * N }, (_, i) => (i % 2 === 0 ? 0 : i % 3 === 0 ? 255 : 254))
  const zeroPoint = Uint8Array.of(255, 0)
  const weight = { codes, scale: Float32Array.of(1e-3, 2e-3), zeroPoint, bits: 8, K, N }
  const origin = addLinear(user, x, 'y', K, N)
  exported(
    user.model,
    [{ origin, packed: packPlanes(weight), activation: A8, inFeatures: K, outFeatures: N }],
    'integer',
  )
  const numbers = new Float32Array(K).fill(1)
  const { y } = await runModel(user.model, { x: tensorOf('float32', [1, K], numbers) }, folder)
  const w = dequantize(weight, K, N, K)
  expect(relativeError(y!, product(fakeQuantizeRows(numbers, K, A8), w, K, N))).toBeLessThan(1e-6)
})

describe('what onnxruntime makes of it at load', () => {
  /** The graph onnxruntime runs. */
  async function optimized(model: Model, name: string) {
    const path = join(folder, `${name}.onnx`)
    const dump = join(folder, `${name}.optimized.onnx`)
    await saveModel(model, path)
    const session = await ort.InferenceSession.create(path, { optimizedModelFilePath: dump, logSeverityLevel: 4 })
    await session.release()
    return loadModel(dump).graph
  }

  test.each(FORMS)('%s: weights are unpacked once and for all', async form => {
    const [K, N] = [64, 33]
    const user = new UserGraph({ opset: 13 })
    const x = user.input('x', ['rows', K])
    const linears = [2, 3, 4, 5, 6, 7, 8].map(bits => ({
      ...{ origin: addLinear(user, x, `w${bits}`, K, N), packed: weightFor({ K, N, form, bits, half: true }).packed },
      ...{ activation: A8, inFeatures: K, outFeatures: N },
    }))
    exported(user.model, linears, form)
    const { nodes, initializers } = await optimized(user.model, form)
    const left = new Set(nodes.map(({ opType }) => opType))
    for (const opType of ['BitShift', 'Concat', 'Slice']) expect(left).not.toContain(opType)
    // Nothing is computed from constants alone.
    const constants = new Set<Value>(initializers)
    expect(nodes.filter(node => node.inputs.every(value => !value || constants.has(value)))).toEqual([])
    const weights = initializers.filter(({ tensor }) => tensor!.dims.join() === `${K},${N}`)
    const kinds = { integer: 'int8', portable: 'float32', nbits: '' }
    expect(weights.map(({ dtype }) => dtype)).toEqual(form === 'nbits' ? [] : Array(7).fill(kinds[form]))
  })
})

describe('refuses', () => {
  test('opsets without the operators', () => {
    const user = new UserGraph({ opset: 10 })
    const x = user.input('x', [ROWS, 16])
    const origin = addLinear(user, x, 'y', 16, 4)
    const { packed } = weightFor({ K: 16, N: 4, form: 'integer', bits: 4 })
    const linear = { origin, packed, activation: A8, inFeatures: 16, outFeatures: 4 }
    expect(() => exported(user.model, [linear], 'integer')).toThrow(
      expect.objectContaining({ code: 'E_UNSUPPORTED', message: expect.stringContaining('opset 10') }),
    )
  })

  test('linears of another graph', () => {
    const [user, other] = [new UserGraph(), new UserGraph()]
    const origin = addLinear(other, other.input('x', [ROWS, 16]), 'stray', 16, 4)
    const { packed } = weightFor({ K: 16, N: 4, form: 'nbits', bits: 4 })
    expect(() => exported(user.model, [{ origin, packed, inFeatures: 16, outFeatures: 4 }], 'nbits')).toThrow('stray')
  })
})
