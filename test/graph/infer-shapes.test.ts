/** @file Shape rules, a row each: the inferred shape is the one that onnxruntime returns. */

import { describe, expect, it } from 'vitest'
import { join } from 'node:path'
import { type AttributeInput, Builder, float } from '../../src/graph/builder.ts'
import { type DType, dtypeNumber } from '../../src/graph/dtype.ts'
import { inferableKinds, inferNode } from '../../src/graph/infer-shapes.ts'
import { newModel, Node, Value } from '../../src/graph/ir.ts'
import { saveModel } from '../../src/graph/onnx-file/save.ts'
import { elementCount, floatTensor, int64Tensor, type Tensor } from '../../src/graph/tensor.ts'
import { openModel, runGraph } from '../../src/kernels/session.ts'
import { tempDir } from '../helpers/temp-dir.ts'

const BYTES: Partial<Record<DType, number>> = { float32: 4, int64: 8, int32: 4, uint8: 1, bool: 1 }

/** An input of an op: a constant of these dims, a tensor, or an absent one. */
type Operand = Tensor | undefined
type Row = [
  kind: string,
  inputs: Operand[],
  attributes?: Record<string, AttributeInput>,
  outputs?: number,
  opset?: number,
]

const f = (...dims: number[]): Tensor =>
  floatTensor(
    dims,
    Array.from({ length: elementCount(dims) }, (_, i) => 0.1 + (i % 7) / 10),
  )
const ones = (dtype: DType, ...dims: number[]): Tensor => ({
  dtype,
  dims,
  data: new Uint8Array(elementCount(dims) * BYTES[dtype]!).fill(dtype === 'bool' ? 1 : 0),
})
const ints = (...values: number[]): Tensor => int64Tensor([values.length], values)
const int = (value: number): Tensor => int64Tensor([], [value])
const number = (value: number): Tensor => floatTensor([], [value])

const BROADCAST = [f(3, 1, 4), f(2, 1)]
const same = (kinds: string, ...inputs: Operand[]): Row[] => kinds.split(' ').map(kind => [kind, inputs])

const rows: Row[] = [
  ...same('Add Sub Mul Div Pow Max Min Sum Mean', ...BROADCAST),
  ...same('Max Min Sum Mean', f(2), f(3, 1), f(1, 1, 1)),
  ...same('Add', f(2, 3), number(1)),
  ...same('Add Mod', ones('int64', 2, 3), ints(1, 2, 3)),
  ...same('And Or Xor', ones('bool', 2, 1), ones('bool', 3)),
  ...same('BitwiseAnd BitwiseOr', ones('int32', 2, 1), ones('int32', 3)),
  ['BitShift', [ones('uint8', 2, 3), ones('uint8', 1)], { direction: 'LEFT' }],
  ...same('PRelu', f(2, 3), f(3)),
  ...same('Neg Abs Sqrt Exp Log Erf Sigmoid Tanh Relu Reciprocal Round Floor Ceil Sign Cos Sin Identity', f(2, 3)),
  ...same('Softmax LogSoftmax Softplus Gelu LeakyRelu HardSigmoid HardSwish Elu Mish', f(2, 3)),
  ...same('com.microsoft.QuickGelu com.microsoft.Gelu com.microsoft.FastGelu', f(2, 3)),
  ...same('com.microsoft.BiasGelu', f(2, 3), f(3)),
  ['Swish', [f(2, 3)], {}, 1, 24],
  ['Clip', [f(2, 3), number(0), number(1)]],
  ['Not', [ones('bool', 2)]],
  ['BitwiseNot', [ones('int32', 2)]],
  ['CumSum', [f(2, 3), int(1)]],
  ['Trilu', [f(3, 4)], { upper: 0 }],
  ['ScatterND', [f(4, 2), int64Tensor([2, 1], [0, 3]), f(2, 2)]],
  ['ScatterElements', [f(3, 3), int64Tensor([1, 2], [0, 1]), f(1, 2)]],
  ['LayerNormalization', [f(2, 3), f(3), f(3)]],
  ['SimplifiedLayerNormalization', [f(2, 3), f(3)]],
  ['RMSNormalization', [f(2, 3), f(3)], {}, 1, 23],
  ['com.microsoft.RotaryEmbedding', [f(1, 2, 8), int64Tensor([1, 2], [0, 1]), f(4, 2), f(4, 2)], { num_heads: 2 }],
  ...same('Equal Less LessOrEqual Greater GreaterOrEqual', ...BROADCAST),
  ...same('IsNaN IsInf', f(2, 3)),
  ...'ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL2 ReduceL1 ReduceSumSquare ReduceLogSumExp'
    .split(' ')
    .flatMap((kind): Row[] => [
      [kind, [f(2, 3, 4), ints(-1, 0)]],
      [kind, [f(2, 3, 4), ints(1)], { keepdims: 0 }],
      [kind, [f(2, 3)]],
      [kind, [f(2, 3)], { noop_with_empty_axes: 1 }],
    ]),
  ...['ArgMax', 'ArgMin'].flatMap((kind): Row[] => [
    [kind, [f(2, 3)]],
    [kind, [f(2, 3)], { axis: -1, keepdims: 0 }],
  ]),
  ['Where', [ones('bool', 2, 1), f(1, 3), f(4, 1, 1)]],
  ['Cast', [f(2, 3)], { to: dtypeNumber('int32') }],
  ['CastLike', [f(2, 3), ints(1)]],
  ['Shape', [f(2, 3, 4)]],
  ['Shape', [f(2, 3, 4)], { start: -2, end: 9 }],
  ['Shape', [f(2, 3, 4)], { start: 2, end: 1 }],
  ['Size', [f(2, 3)]],
  ['MatMul', [f(2, 3), f(3, 4)]],
  ['MatMul', [f(5, 1, 2, 3), f(6, 3, 4)]],
  ['MatMul', [f(3), f(3, 4)]],
  ['MatMul', [f(2, 3), f(3)]],
  ['MatMul', [f(3), f(3)]],
  ['MatMul', [f(3), f(5, 3, 4)]],
  ['com.microsoft.FusedMatMul', [f(5, 3, 2), f(5, 4, 3)], { transA: 1, transB: 1 }],
  ['Gemm', [f(3, 2), f(4, 3), f(4)], { transA: 1, transB: 1, alpha: float(2) }],
  [
    'com.microsoft.MatMulNBits',
    [f(2, 3, 32), ones('uint8', 5, 2, 8), f(5, 2)],
    { K: 32, N: 5, bits: 4, block_size: 16 },
  ],
  ['Transpose', [f(2, 3, 4)], { perm: [1, 2, 0] }],
  ['Transpose', [f(2, 3, 4)]],
  ['Reshape', [f(2, 3, 4), ints(0, -1)]],
  ['Reshape', [f(2, 3, 4), ints(4, 6)]],
  ['Reshape', [f(0, 3), ints(3, 0)], { allowzero: 1 }],
  ['Reshape', [f(2, 0, 3), ints(0, 0, 3)]],
  ['Reshape', [f(1, 1), int64Tensor([0], [])]],
  ['Flatten', [f(2, 3, 4)]],
  ['Flatten', [f(2, 3, 4)], { axis: -1 }],
  ['Flatten', [f(2, 3, 4)], { axis: 0 }],
  ['Squeeze', [f(1, 2, 1)]],
  ['Squeeze', [f(1, 2, 1), ints(-1)]],
  ['Unsqueeze', [f(2, 3), ints(0, -1)]],
  ['Unsqueeze', [f(2, 3), ints(3, 1)]],
  ['Expand', [f(3, 1), ints(2, 1, 4)]],
  ['Expand', [f(3, 1), ints(4)]],
  ['Tile', [f(2, 3), ints(2, 3)]],
  ['Concat', [f(2, 3), f(2, 1), f(2, 0)], { axis: -1 }],
  ['Slice', [f(5, 6), ints(1, -2), ints(-1, 100)]],
  ['Slice', [f(5, 6), ints(-1), ints(-100), ints(1), ints(-2)]],
  ['Slice', [f(5, 6), ints(3), ints(3), ints(-2)]],
  ['Slice', [f(5, 6), ints(4), ints(2), ints(0)]],
  ['Slice', [f(5, 6), ints(0), ints(6), ints(1), ints(4)]],
  ['Split', [f(2, 7)], { axis: 1, num_outputs: 3 }, 3],
  ['Split', [f(6, 2), ints(1, 3, 2)], {}, 3],
  ['Split', [f(6, 2)], { num_outputs: 2 }, 2],
  ['Pad', [f(2, 3), ints(1, 0, 2, 1)]],
  ['Pad', [f(2, 3), ints(1, -1), undefined, ints(-1)]],
  ['Gather', [f(4, 5), int64Tensor([2, 3], [0, 1, 2, 3, 0, -1])]],
  ['Gather', [f(4, 5), int(1)], { axis: -1 }],
  ['GatherElements', [f(3, 3), int64Tensor([2, 3], [0, 1, 2, 0, 1, 2])], { axis: 0 }],
  ['GatherND', [f(4, 5, 6), int64Tensor([3, 2], [0, 1, 2, 3, 3, 4])]],
  ['GatherND', [f(2, 5, 6), int64Tensor([2, 1], [4, 0])], { batch_dims: 1 }],
  ['ConstantOfShape', [ints(2, 3)]],
  ['ConstantOfShape', [ints(2)], { value: int64Tensor([1], [7]) }],
  ['ConstantOfShape', [int64Tensor([0], [])]],
  ['Range', [int(3), int(-4), int(-2)]],
  ['Range', [number(0), number(1), number(0.3)]],
  ['Range', [int(3), int(3), int(1)]],
  ['OneHot', [ints(0, 2), int(3), f(2)]],
  ['OneHot', [int64Tensor([2, 1], [0, 2]), ints(3), f(2)], { axis: 0 }],
  ['TopK', [f(2, 5), ints(3)], {}, 2],
  ['TopK', [f(5, 2), ints(3)], { axis: 0 }, 2],
  ['QuantizeLinear', [f(2, 3), number(0.1)]],
  ['QuantizeLinear', [f(2, 3), f(2), ones('uint8', 2)], { axis: 0 }],
  ['DequantizeLinear', [ones('uint8', 2, 3), number(0.1)]],
]

const folder = tempDir()

describe('the shape inferred is the one onnxruntime returns', () => {
  it.each(
    rows.map((row, i) => [`${row[0]} ${row[1].map(each => `[${each?.dims.join() ?? '-'}]`).join(' ')}`, i] as const),
  )('%s (row %i)', async (_, i) => {
    const [kind, inputs, attributes = {}, outputs = 1, opset] = rows[i]!
    const [domain, opType] = kind.includes('.')
      ? [kind.slice(0, kind.lastIndexOf('.')), kind.slice(kind.lastIndexOf('.') + 1)]
      : ['', kind]
    const g = new Builder()
    const values = inputs.map(each => each && g.initializer('in', each))
    const results = g.ops(opType, values, outputs, attributes, { domain })
    results.forEach((result, index) => g.output(result, `out${index}`))
    const inferred = results.map(({ dtype, shape }) => ({ dtype, dims: shape }))

    let actual
    if (opset === undefined) actual = await runGraph(g.graph)
    else {
      const path = join(folder, `${i}.onnx`)
      await saveModel(newModel(g.graph, opset), path)
      const session = await openModel(path)
      actual = await session.run({})
      await session.release()
    }
    expect(inferred).toEqual(results.map(({ name }) => ({ dtype: actual[name]!.dtype, dims: actual[name]!.dims })))
  })

  it('for every rule there is', () => {
    expect([...new Set(rows.map(([kind]) => kind))].sort()).toEqual([...inferableKinds].sort())
  })
})

describe('inferNode refuses', () => {
  const value = (dtype?: DType, ...shape: (number | string)[]) => new Value('v', dtype, shape)
  it.each<[string, Node, RegExp]>([
    ['ops it has no row for', new Node('Loop', [], [], new Map(), '', 'n'), /no shape rule for Loop \(node "n"\)/],
    ['absent inputs', new Node('Neg', [undefined], [new Value('y')], new Map(), '', 'n'), /Neg "n" lacks its input 0/],
    ['unknown types', new Node('Neg', [value(undefined, 2)], [new Value('y')]), /element type of "v" is not known/],
    ['symbolic shapes', new Node('Neg', [value('float32', 'n')], [new Value('y')]), /"v" depends on data: \[n\]/],
    [
      'shapes that depend on data',
      new Node('Reshape', [value('float32', 2), value('int64', 1)], [new Value('y')], new Map(), '', 'r'),
      /input 1 of Reshape "r" must be constant/,
    ],
  ])('%s', (_, node, message) => {
    expect(() => inferNode(node)).toThrow(
      expect.objectContaining({ code: 'E_UNSUPPORTED', message: expect.stringMatching(message) }),
    )
  })
})
