/**
 * @file Facts that the code takes for granted of onnxruntime (docs/onnxruntime.md), asked of the onnxruntime that is installed. When one of
 * these tests fails after an update, the code named in that table has to be looked at. Nothing here may end the process.
 */

import { describe, expect, test } from 'vitest'
import { Builder } from '../../src/graph/builder.ts'
import { type Attribute, Graph, newModel, Node, Value } from '../../src/graph/ir.ts'
import { saveModel } from '../../src/graph/onnx-file/save.ts'
import { floatTensor, readElements, readNumbers, type Tensor, tensorOf } from '../../src/graph/tensor.ts'
import { compile, openModel, runGraph, type SessionOptions } from '../../src/kernels/session.ts'
import { tempDir } from '../helpers/temp-dir.ts'
import { join } from 'node:path'

type Attributes = Readonly<Record<string, number | string>>

/** One node over constants, its output declared as nothing: onnxruntime says what comes out. */
function graphOf(
  kind: string,
  inputs: readonly Tensor[],
  attributes: Attributes = {},
  outputType: 'float32' | 'int64' | 'int32' = 'float32',
) {
  const g = new Builder()
  const values = inputs.map((tensor, i) => g.initializer(`in${i}`, tensor))
  const y = new Value('y', outputType)
  const entries = Object.entries(attributes).map(([name, value]): [string, Attribute] => [
    name,
    typeof value === 'number' ? { type: 'int', value } : { type: 'string', value },
  ])
  const at = kind.lastIndexOf('.')
  g.graph.nodes.push(
    new Node(kind.slice(at + 1), values, [y], new Map(entries), kind.slice(0, Math.max(0, at)), 'node'),
  )
  g.graph.outputs.push(y)
  return g.graph
}

const run = async (...[kind, inputs, attributes, type]: Parameters<typeof graphOf>): Promise<Tensor> =>
  (await runGraph(graphOf(kind, inputs, attributes, type))).y!

const wave = (count: number): number[] => Array.from({ length: count }, (_, i) => Math.sin(i * i + 1))

const bytes = (count: number): Uint8Array => Uint8Array.from({ length: count }, (_, i) => (i * 37) % 251)

/** Root of the mean square of a - b, in units of b's. */
function distance(a: Tensor, b: Tensor): number {
  const [left, right] = [readNumbers(a), readNumbers(b)]
  const square = (numbers: readonly number[]) => numbers.reduce((sum, x) => sum + x * x, 0)
  return Math.sqrt(square(left.map((x, i) => x - right[i]!)) / square(right))
}

describe('MatMulNBits', () => {
  const product = (bits: number, block: number) => {
    const [K, N] = [256, 4]
    const blocks = Math.ceil(K / block)
    return run(
      'com.microsoft.MatMulNBits',
      [
        floatTensor([1, K], wave(K)),
        tensorOf('uint8', [N, blocks, (block * bits) / 8], bytes((N * blocks * block * bits) / 8)),
        floatTensor([N, blocks], Array<number>(N * blocks).fill(1)),
      ],
      { K, N, bits, block_size: block },
    )
  }

  test.each([2, 4, 8])('has weights of %i bits', async bits => {
    expect((await product(bits, 32)).dims).toEqual([1, 4])
  })

  test.each([3, 5, 6, 7])('has none of %i bits', async bits => {
    await expect(product(bits, 32)).rejects.toThrow(/Only 2b, 4b and 8b quantization is supported/)
  })

  test.each([16, 32, 64, 128, 256])('has blocks of %i', async block => {
    expect((await product(4, block)).dims).toEqual([1, 4])
  })

  test.each([8, 48, 512])('has no blocks of %i', async block => {
    await expect(product(4, block)).rejects.toThrow(/Only block sizes 16, 32, 64, 128, and 256 are supported/)
  })
})

describe('scales of weights may be negative', () => {
  /** The product with x as a run input and everything else constant, as clients run it. */
  const productOf = async (
    kind: string,
    x: Tensor,
    constants: readonly (Tensor | undefined)[],
    attributes: Attributes,
  ) => {
    const graph = graphOf(kind, [x, ...constants.filter(each => each !== undefined)], attributes)
    const input = graph.initializers.shift()!
    graph.inputs.push(new Value(input.name, x.dtype, x.dims))
    graph.nodes[0]!.inputs[0] = graph.inputs[0]
    return readNumbers((await runGraph(graph, { [input.name]: x }, { prepacking: true })).y!)
  }

  test.each([2, 4, 8].flatMap(bits => [0, 4].flatMap(level => [1, 40].map(rows => [bits, level, rows] as const))))(
    'MatMulNBits, %i bits, accuracy_level %i, %i rows: negated scales negate the product',
    async (bits, level, rows) => {
      const [K, N, block] = [128, 24, 32]
      const codes = tensorOf('uint8', [N, K / block, (block * bits) / 8], bytes((N * K * bits) / 8))
      const scales = wave((N * K) / block)
      const product = (sign: number) =>
        productOf(
          'com.microsoft.MatMulNBits',
          floatTensor([rows, K], wave(rows * K)),
          [
            codes,
            floatTensor(
              [N, K / block],
              scales.map(x => sign * x),
            ),
          ],
          { K, N, bits, block_size: block, accuracy_level: level },
        )
      const [one, other] = [await product(1), await product(-1)]
      expect(Math.max(...one.map(Math.abs))).toBeGreaterThan(1)
      expect(other).toEqual(one.map(y => -y))
    },
  )

  test.each([1, 40])('MatMulIntegerToFloat, %i rows: exact up to 255 times -128, for either sign', async rows => {
    // All sums are below 2^24: float32 holds them.
    const [K, N] = [500, 19]
    const x = Uint8Array.from({ length: rows * K }, (_, i) => (i % 7 < 5 ? 255 : (i * 31) % 256))
    const w = Int8Array.from({ length: K * N }, (_, i) => (i % N < 9 ? -128 : ((i * 53) % 256) - 128))
    const scale = Array.from({ length: N }, (_, n) => (n % 2 === 0 ? -1 : 1))
    const y = await productOf(
      'com.microsoft.MatMulIntegerToFloat',
      tensorOf('uint8', [rows, K], x),
      [
        tensorOf('int8', [K, N], w),
        floatTensor([], [1]),
        floatTensor([N], scale),
        tensorOf('uint8', [], Uint8Array.of(128)),
      ],
      {},
    )
    const sum = (m: number, n: number) =>
      Array.from({ length: K }, (_, k) => (x[m * K + k]! - 128) * w[k * N + n]!).reduce((a, b) => a + b)
    expect(y).toEqual(Array.from({ length: rows * N }, (_, i) => scale[i % N]! * sum(Math.floor(i / N), i % N)))
  })

  test('GatherBlockQuantized', async () => {
    const [V, D, block] = [3, 32, 16]
    const codes = bytes((V * D) / 2)
    const scales = wave((V * D) / block)
    const rows = await productOf(
      'com.microsoft.GatherBlockQuantized',
      tensorOf('uint8', [V, D / 2], codes),
      [tensorOf('int64', [V], BigInt64Array.of(2n, 0n, 1n)), floatTensor([V, D / block], scales)],
      { bits: 4, block_size: block, gather_axis: 0, quantize_axis: 1 },
    )
    expect(scales.some(x => x < 0)).toBe(true)
    const expected = [2, 0, 1].flatMap(row =>
      Array.from({ length: D }, (_, d) => {
        const code = (codes[(row * D + d) >> 1]! >> (4 * (d % 2))) & 15
        return Math.fround((code - 8) * Math.fround(scales[(row * D + d - (d % block)) / block]!))
      }),
    )
    expect(rows).toEqual(expected)
  })
})

describe('quantized activations', () => {
  test('a MatMul of a DequantizeLinear rounds its activations, unless the graph is run as written', async () => {
    const [K, N] = [128, 32]
    const g = new Builder()
    const x = g.input('x', 'float32', [4, K])
    const w = new Value('w', 'float32', [K, N])
    const constants = [
      g.initializer('q', { dtype: 'uint4', dims: [K, N], data: bytes((K * N) / 2) }),
      g.initializer(
        'scale',
        floatTensor(
          [K / 32, N],
          wave((K / 32) * N).map(each => Math.abs(each) + 0.1),
        ),
      ),
      g.initializer('zero', { dtype: 'uint4', dims: [K / 32, N], data: bytes(((K / 32) * N) / 2) }),
    ]
    const attributes = new Map<string, Attribute>([
      ['axis', { type: 'int', value: 0 }],
      ['block_size', { type: 'int', value: 32 }],
    ])
    g.graph.nodes.push(new Node('DequantizeLinear', constants, [w], attributes, '', 'dequantize'))
    g.output(g.matMul(x, w), 'y')
    const feeds = { x: floatTensor([4, K], wave(4 * K)) }
    const result = async (optimization: SessionOptions['optimization'] & string) =>
      (await runGraph(g.graph, feeds, { optimization, prepacking: true })).y!
    const exact = await result('disabled')
    expect(distance(await result('basic'), exact)).toBeLessThan(1e-6)
    expect(distance(await result('all'), exact)).toBeGreaterThan(1e-3)
    // Programs run without prepacking, where MatMulNBits computes in float32.
    const unpacked = await runGraph(g.graph, feeds, { prepacking: false })
    expect(distance(unpacked.y!, exact)).toBeLessThan(1e-6)
  })

  /** x [4, 64] and a weight [64, 8] of DequantizeLinear, in the main graph; `write` gives the result. */
  async function dequantized(write: (g: Builder, x: Value, dequantize: () => Value) => Value) {
    const [K, N] = [64, 8]
    const g = new Builder()
    const x = g.input('x', 'float32', [4, K])
    const codes = g.initializer('q', { dtype: 'int4', dims: [K, N], data: bytes((K * N) / 2) })
    const scales = g.initializer(
      'scale',
      floatTensor(
        [K / 32, N],
        wave((K / 32) * N).map(each => Math.abs(each) + 0.1),
      ),
    )
    const y = write(g, x, () => g.op('DequantizeLinear', [codes, scales], { axis: 0, block_size: 32 }))
    g.output(y, 'y')
    const result = async (optimization: SessionOptions['optimization'] & string, level?: 0 | 4) =>
      (
        await runGraph(
          g.graph,
          { x: floatTensor([4, K], wave(4 * K)) },
          { optimization, prepacking: true, ...(level !== undefined && { qdqAccuracyLevel: level }) },
        )
      ).y!
    return { result, exact: await result('disabled') }
  }

  test('session.qdq_matmulnbits_accuracy_level says what the fused product computes in', async () => {
    const { result, exact } = await dequantized((g, x, dequantize) => g.matMul(x, dequantize()))
    expect(distance(await result('all', 0), exact)).toBeLessThan(1e-6)
    expect(distance(await result('all', 4), exact)).toBeGreaterThan(1e-3)
    expect(await result('all')).toEqual(await result('all', 4))
  })

  test('two products of one DequantizeLinear, and a Gemm with an activation behind it, are not fused with it', async () => {
    const two = await dequantized((g, x, dequantize) => {
      const w = dequantize()
      return g.add(g.matMul(x, w), g.matMul(g.neg(g.neg(g.add(x, x))), w))
    })
    expect(distance(await two.result('all'), two.exact)).toBeLessThan(1e-6)
    const bias = floatTensor([8], wave(8))
    const gemm = (g: Builder, x: Value, w: Value) => g.op('Gemm', [x, w, g.initializer('bias', bias)])
    const active = await dequantized((g, x, dequantize) => g.neg(g.op('Relu', [gemm(g, x, dequantize())])))
    expect(distance(await active.result('all'), active.exact)).toBeLessThan(1e-6)
    const alone = await dequantized((g, x, dequantize) => gemm(g, x, dequantize()))
    expect(distance(await alone.result('all'), alone.exact)).toBeGreaterThan(1e-3)
  })

  test('a body that dequantizes constants of the main graph for a product is refused', async () => {
    const branch = (g: Builder, x: Value, dequantize: () => Value) => {
      const before = g.graph.nodes.length
      const y = g.matMul(x, dequantize())
      const body = new Graph('body')
      body.nodes = g.graph.nodes.splice(before)
      body.outputs = [y]
      return body
    }
    const refused = dequantized((g, x, dequantize) => {
      const flag = g.initializer('flag', tensorOf('bool', [1], Uint8Array.of(1)))
      const [then_branch, else_branch] = [branch(g, x, dequantize), branch(g, x, dequantize)]
      const chosen = g.op('ReduceMax', [g.cast(x, 'int32')], { keepdims: 0 })
      const y = new Value('chosen', 'float32', [4, 8])
      const bodies = Object.entries({ then_branch, else_branch })
      const attributes = new Map(bodies.map(([name, value]): [string, Attribute] => [name, { type: 'graph', value }]))
      // A condition that is known would be decided at load.
      const condition = g.op('And', [flag, g.reshape(g.op('Greater', [chosen, g.scalar(0, 'int32')]), [1])])
      g.graph.nodes.push(new Node('If', [condition], [y], attributes, '', 'if'))
      return y
    })
    await expect(refused.then(({ result }) => result('all'))).rejects.toThrow(/Missing required weight/)
  })

  test('MatMulInteger takes one zero point for all rows of A, none for each', async () => {
    const zeros = (dims: number[]) => tensorOf('uint8', dims, new Uint8Array(dims[0] ?? 1).fill(3))
    const operands = [tensorOf('uint8', [2, 4], bytes(8)), tensorOf('int8', [4, 3], Int8Array.from(bytes(12)))]
    expect((await run('MatMulInteger', [...operands, zeros([])], {}, 'int32')).dims).toEqual([2, 3])
    await expect(run('MatMulInteger', [...operands, zeros([2])], {}, 'int32')).rejects.toThrow(/scalar/)
  })

  test('a reduction of no rows along K gives [0, K]', async () => {
    const g = new Builder()
    const x = g.input('x', 'float32', [2, 8])
    x.shape = ['n', 8]
    const y = new Value('y', 'float32')
    const axes = g.ints([-1])
    g.graph.nodes.push(new Node('ReduceMax', [x, axes], [y]))
    g.graph.outputs.push(y)
    const rows = async (n: number) => (await runGraph(g.graph, { x: floatTensor([n, 8], wave(n * 8)) })).y!.dims
    expect(await rows(2)).toEqual([2, 1])
    expect(await rows(0)).toEqual([0, 8])
  })
})

describe('programs', () => {
  test('FusedMatMul has a kernel for float32 and none for float64', async () => {
    const operands = (dtype: 'float32' | 'float64') => [0, 1].map(() => floatTensor([2, 2], [1, 2, 3, 4], dtype))
    const fused = 'com.microsoft.FusedMatMul'
    expect(readNumbers(await run(fused, operands('float32'), { transA: 1 }))).toEqual([10, 14, 14, 20])
    await expect(run(fused, operands('float64'), { transA: 1 })).rejects.toThrow()
  })

  test.each(['SoftmaxGrad', 'LayerNormalizationGrad', 'AdamWOptimizer', 'GatherGrad', 'FakeQuant'])(
    'there is no %s',
    async kind => {
      await expect(run(`com.microsoft.${kind}`, [floatTensor([1], [1])])).rejects.toThrow(
        /not a registered function\/op/,
      )
    },
  )

  test('nodes of one name are refused', async () => {
    const g = new Builder()
    const x = g.input('x', 'float32', [1])
    g.output(g.neg(g.neg(x)), 'y')
    for (const node of g.graph.nodes) node.name = 'same'
    await expect(compile(g.graph)).rejects.toThrow(/same/)
  })

  test('division of integers by zero is an error of the run', async () => {
    const ints = (value: number) => tensorOf('int32', [1], Int32Array.of(value))
    await expect(run('Div', [ints(1), ints(0)], {}, 'int32')).rejects.toThrow()
  })

  test('the same program gives the same bytes twice', async () => {
    const operands = [floatTensor([64, 128], wave(64 * 128)), floatTensor([128, 64], wave(128 * 64))]
    const [first, second] = [await run('MatMul', operands), await run('MatMul', operands)]
    expect(readElements(first)).toEqual(readElements(second))
  })

  test('a run blocks the thread it is called from', async () => {
    const g = new Builder()
    const x = g.input('x', 'float32', [1024, 1024])
    let y = x
    for (let i = 0; i < 4; i++) y = g.matMul(y, x)
    g.output(y, 'y')
    const session = await compile(g.graph, { threads: 1 })
    const feeds = { x: floatTensor([1024, 1024], wave(2 ** 20)) }
    let ticks = 0
    const timer = setInterval(() => ticks++, 1)
    await session.run(feeds)
    clearInterval(timer)
    await session.release()
    // The run takes tenths of a second. The timer may fire before it begins and after its end.
    expect(ticks).toBeLessThan(5)
  })
})

describe('edges of a graph', () => {
  test('a scalar and an output of unknown rank both have no dimensions', async () => {
    const path = join(tempDir(), 'model.onnx')
    const g = new Builder()
    const x = g.input('x', 'float32', [])
    const any = new Value('any', 'float32')
    const shape = new Value('shape', 'int64', ['rank'])
    g.graph.inputs.push(any, shape)
    const unknown = new Value('unknown', 'float32')
    g.graph.nodes.push(new Node('Reshape', [any, shape], [unknown]))
    g.output(g.neg(x), 'scalar')
    g.graph.outputs.push(unknown)
    await saveModel(newModel(g.graph), path)
    const session = await openModel(path)
    expect(session.inputs.filter(({ name }) => name !== 'shape').map(({ shape }) => shape)).toEqual([[], []])
    expect(session.outputs.map(({ shape }) => shape)).toEqual([[], []])
    await session.release()
  })

  test('bfloat16 cannot be an output', async () => {
    const g = new Builder()
    g.output(g.cast(g.input('x', 'float32', [2]), 'bfloat16'), 'y')
    await expect(compile(g.graph)).rejects.toThrow(/Unsupported data type/)
  })
})
