/**
 * @file Static shape and type inference: one row per op type. Written for working copies and for programs we build:
 * every dimension is a number, axes are inputs (the opset of our programs), and what a shape depends on is constant.
 */

import { internalError, QuantError } from '../errors.ts'
import { type DType, dtypeFromNumber } from './dtype.ts'
import type { Node } from './ir.ts'
import { MAX_ELEMENTS, MAX_RANK } from './limits.ts'
import { inputShape, reductionAxes, requireInput, sliceRanges, splitSizes } from './node-arguments.ts'
import {
  broadcastShapes,
  matMulShape,
  normalizeAxis,
  requireConstant,
  reshapeTarget,
  sameShape,
  type Shape,
} from './shape.ts'

interface Inferred {
  readonly dtype: DType
  readonly shape: Shape
}

type ShapeRule = (node: Node) => Inferred[]

const dtypeOf = (node: Node, index: number): DType => {
  const { dtype, name } = requireInput(node, index)
  if (dtype === undefined) throw new QuantError('E_UNSUPPORTED', `the element type of "${name}" is not known`)
  return dtype
}

const sameAsInput: ShapeRule = node => [{ dtype: dtypeOf(node, 0), shape: inputShape(node, 0) }]

/** What keeps the shape, along an axis that must exist. */
const alongAxis: ShapeRule = node => {
  normalizeAxis(node.int('axis', -1), inputShape(node, 0).length)
  return sameAsInput(node)
}

/** The one type that these inputs have. */
function commonType(node: Node, inputs: readonly number[]): DType {
  const types = new Set(inputs.map(i => dtypeOf(node, i)))
  if (types.size !== 1) throw internalError(`inputs are of types ${[...types].join(' and ')}`)
  return [...types][0]!
}

const elementwise: ShapeRule = node => {
  const all = [...node.inputs.keys()]
  return [{ dtype: commonType(node, all), shape: broadcastShapes(...all.map(i => inputShape(node, i))) }]
}

const binary: ShapeRule = node => [
  { dtype: commonType(node, [0, 1]), shape: broadcastShapes(inputShape(node, 0), inputShape(node, 1)) },
]

const power: ShapeRule = node => [
  { dtype: dtypeOf(node, 0), shape: broadcastShapes(inputShape(node, 0), inputShape(node, 1)) },
]

const comparison: ShapeRule = node => [
  { dtype: 'bool', shape: broadcastShapes(inputShape(node, 0), inputShape(node, 1)) },
]

const predicate: ShapeRule = node => [{ dtype: 'bool', shape: inputShape(node, 0) }]

const swapLast = (shape: Shape, swap: boolean): Shape =>
  swap ? [...shape.slice(0, -2), shape.at(-1)!, shape.at(-2)!] : shape

const reduction: ShapeRule = node => {
  const axes = new Set(reductionAxes(node))
  const keep = node.int('keepdims', 1) === 1
  return [
    {
      dtype: dtypeOf(node, 0),
      shape: inputShape(node, 0).flatMap((dim, i) => (axes.has(i) ? (keep ? [1] : []) : [dim])),
    },
  ]
}

const argReduction: ShapeRule = node => {
  const shape = inputShape(node, 0)
  const axis = normalizeAxis(node.int('axis', 0), shape.length)
  return [
    { dtype: 'int64', shape: shape.flatMap((dim, i) => (i === axis ? (node.int('keepdims', 1) ? [1] : []) : [dim])) },
  ]
}

const RULES: Record<string, ShapeRule> = {
  ...Object.fromEntries(
    'Add Sub Mul Div Mod And Or Xor BitwiseAnd BitwiseOr BitShift PRelu'.split(' ').map(op => [op, binary]),
  ),
  Pow: power,
  ...Object.fromEntries(['Max', 'Min', 'Sum', 'Mean'].map(op => [op, elementwise])),
  ...Object.fromEntries(
    (
      'Neg Abs Sqrt Exp Log Erf Sigmoid Tanh Relu Reciprocal Round Floor Ceil Sign Cos Sin Identity Clip Not Softplus Gelu ' +
      'LeakyRelu HardSigmoid HardSwish Elu CumSum Trilu ScatterND ScatterElements ' +
      'BitwiseNot Swish Mish com.microsoft.QuickGelu com.microsoft.Gelu com.microsoft.FastGelu com.microsoft.BiasGelu com.microsoft.RotaryEmbedding'
    )
      .split(' ')
      .map(op => [op, sameAsInput]),
  ),
  ...Object.fromEntries(
    'Softmax LogSoftmax LayerNormalization SimplifiedLayerNormalization RMSNormalization'
      .split(' ')
      .map(op => [op, alongAxis]),
  ),
  ...Object.fromEntries(['Equal', 'Less', 'LessOrEqual', 'Greater', 'GreaterOrEqual'].map(op => [op, comparison])),
  ...Object.fromEntries(['IsNaN', 'IsInf'].map(op => [op, predicate])),
  ...Object.fromEntries(
    [
      'ReduceSum',
      'ReduceMean',
      'ReduceMax',
      'ReduceMin',
      'ReduceProd',
      'ReduceL2',
      'ReduceL1',
      'ReduceSumSquare',
      'ReduceLogSumExp',
    ].map(op => [op, reduction]),
  ),
  ArgMax: argReduction,
  ArgMin: argReduction,
  Where: node => [
    {
      dtype: commonType(node, [1, 2]),
      shape: broadcastShapes(inputShape(node, 0), inputShape(node, 1), inputShape(node, 2)),
    },
  ],
  Cast: node => [{ dtype: dtypeFromNumber(node.int('to', 0)), shape: inputShape(node, 0) }],
  CastLike: node => [{ dtype: dtypeOf(node, 1), shape: inputShape(node, 0) }],
  Shape: node => {
    const rank = inputShape(node, 0).length
    const clamp = (index: number) => Math.min(Math.max(index < 0 ? index + rank : index, 0), rank)
    return [{ dtype: 'int64', shape: [Math.max(0, clamp(node.int('end', rank)) - clamp(node.int('start', 0)))] }]
  },
  Size: () => [{ dtype: 'int64', shape: [] }],
  MatMul: node => [{ dtype: commonType(node, [0, 1]), shape: matMulShape(inputShape(node, 0), inputShape(node, 1)) }],
  'com.microsoft.FusedMatMul': node => [
    {
      dtype: commonType(node, [0, 1]),
      shape: matMulShape(
        swapLast(inputShape(node, 0), node.int('transA', 0) === 1),
        swapLast(inputShape(node, 1), node.int('transB', 0) === 1),
      ),
    },
  ],
  Gemm: node => [
    {
      dtype: commonType(node, [0, 1]),
      shape: matMulShape(
        swapLast(inputShape(node, 0), node.int('transA', 0) === 1),
        swapLast(inputShape(node, 1), node.int('transB', 0) === 1),
      ),
    },
  ],
  'com.microsoft.MatMulNBits': node => [
    { dtype: dtypeOf(node, 0), shape: [...inputShape(node, 0).slice(0, -1), node.int('N', 0)] },
  ],
  Transpose: node => {
    const shape = inputShape(node, 0)
    const perm = node.ints('perm') ?? shape.map((_, i) => shape.length - 1 - i)
    if (
      !sameShape(
        [...perm].sort((a, b) => a - b),
        [...shape.keys()],
      )
    )
      throw internalError(`[${perm.join(', ')}] is no order of ${shape.length} axes`)
    return [{ dtype: dtypeOf(node, 0), shape: perm.map(i => shape[i]!) }]
  },
  Reshape: node => [
    {
      dtype: dtypeOf(node, 0),
      shape: reshapeTarget(inputShape(node, 0), requireConstant(node, 1), node.int('allowzero', 0) === 1),
    },
  ],
  Flatten: node => {
    const shape = inputShape(node, 0)
    const axis = node.int('axis', 1) < 0 ? node.int('axis', 1) + shape.length : node.int('axis', 1)
    const product = (dims: Shape) => dims.reduce((a, b) => a * b, 1)
    return [{ dtype: dtypeOf(node, 0), shape: [product(shape.slice(0, axis)), product(shape.slice(axis))] }]
  },
  Squeeze: node => {
    const shape = inputShape(node, 0)
    const axes = node.inputs[1]
      ? requireConstant(node, 1).map(axis => normalizeAxis(axis, shape.length))
      : shape.flatMap((dim, i) => (dim === 1 ? [i] : []))
    return [{ dtype: dtypeOf(node, 0), shape: shape.filter((_, i) => !axes.includes(i)) }]
  },
  Unsqueeze: node => {
    const shape = inputShape(node, 0)
    const axes = requireConstant(node, 1)
    const rank = shape.length + axes.length
    const inserted = new Set(axes.map(axis => normalizeAxis(axis, rank)))
    const rest = [...shape]
    return [
      { dtype: dtypeOf(node, 0), shape: Array.from({ length: rank }, (_, i) => (inserted.has(i) ? 1 : rest.shift()!)) },
    ]
  },
  Expand: node => [{ dtype: dtypeOf(node, 0), shape: broadcastShapes(inputShape(node, 0), requireConstant(node, 1)) }],
  Tile: node => {
    const repeats = requireConstant(node, 1)
    if (repeats.length !== inputShape(node, 0).length) throw internalError(`${repeats.length} repeats do not fit`)
    return [{ dtype: dtypeOf(node, 0), shape: inputShape(node, 0).map((dim, i) => dim * repeats[i]!) }]
  },
  Concat: node => {
    const shapes = node.inputs.map((_, i) => inputShape(node, i))
    const axis = normalizeAxis(node.int('axis', 0), shapes[0]!.length)
    const others = (shape: Shape) => shape.map((dim, i) => (i === axis ? -1 : dim))
    if (!shapes.every(shape => sameShape(others(shape), others(shapes[0]!))))
      throw internalError(`shapes cannot be joined along axis ${axis}`)
    const total = shapes.reduce((sum, shape) => sum + shape[axis]!, 0)
    return [
      {
        dtype: commonType(node, [...node.inputs.keys()]),
        shape: shapes[0]!.map((dim, i) => (i === axis ? total : dim)),
      },
    ]
  },
  Slice: node => {
    const shape = [...inputShape(node, 0)]
    for (const { axis, size } of sliceRanges(node)) shape[axis] = size
    return [{ dtype: dtypeOf(node, 0), shape }]
  },
  Split: node => {
    const shape = inputShape(node, 0)
    const axis = normalizeAxis(node.int('axis', 0), shape.length)
    const sizes = splitSizes(node)
    if (sizes.reduce((sum, size) => sum + size, 0) !== shape[axis])
      throw internalError(`parts of [${sizes.join(', ')}] do not fill axis ${axis}`)
    return sizes.map(size => ({
      dtype: dtypeOf(node, 0),
      shape: shape.map((dim, i) => (i === axis ? size : dim)),
    }))
  },
  Pad: node => {
    const shape = inputShape(node, 0)
    const pads = requireConstant(node, 1)
    const axes = node.inputs[3]
      ? requireConstant(node, 3).map(axis => normalizeAxis(axis, shape.length))
      : shape.map((_, i) => i)
    if (pads.length !== 2 * axes.length) throw internalError(`${pads.length} pads do not fit ${axes.length} axes`)
    const result = [...shape]
    axes.forEach((axis, i) => {
      result[axis] = result[axis]! + pads[i]! + pads[i + axes.length]!
    })
    return [{ dtype: dtypeOf(node, 0), shape: result }]
  },
  Gather: node => {
    const shape = inputShape(node, 0)
    const axis = normalizeAxis(node.int('axis', 0), shape.length)
    return [
      { dtype: dtypeOf(node, 0), shape: [...shape.slice(0, axis), ...inputShape(node, 1), ...shape.slice(axis + 1)] },
    ]
  },
  GatherElements: node => [{ dtype: dtypeOf(node, 0), shape: inputShape(node, 1) }],
  GatherND: node => {
    const data = inputShape(node, 0)
    const indices = inputShape(node, 1)
    return [
      {
        dtype: dtypeOf(node, 0),
        shape: [...indices.slice(0, -1), ...data.slice(indices.at(-1)! + node.int('batch_dims', 0))],
      },
    ]
  },
  ConstantOfShape: node => {
    const value = node.attributes.get('value')
    return [{ dtype: value?.type === 'tensor' ? value.value.dtype : 'float32', shape: requireConstant(node, 0) }]
  },
  Range: node => {
    const [start, limit, delta] = [0, 1, 2].map(i => requireConstant(node, i)[0]!)
    return [{ dtype: dtypeOf(node, 0), shape: [Math.max(0, Math.ceil((limit! - start!) / delta!))] }]
  },
  OneHot: node => {
    const shape = inputShape(node, 0)
    const rank = shape.length + 1
    const axis = normalizeAxis(node.int('axis', -1), rank)
    return [
      { dtype: dtypeOf(node, 2), shape: [...shape.slice(0, axis), requireConstant(node, 1)[0]!, ...shape.slice(axis)] },
    ]
  },
  TopK: node => {
    const shape = inputShape(node, 0)
    const axis = normalizeAxis(node.int('axis', -1), shape.length)
    const k = requireConstant(node, 1)[0]!
    const result = shape.map((dim, i) => (i === axis ? k : dim))
    return [
      { dtype: dtypeOf(node, 0), shape: result },
      { dtype: 'int64', shape: result },
    ]
  },
  QuantizeLinear: node => [{ dtype: node.inputs[2]?.dtype ?? 'uint8', shape: inputShape(node, 0) }],
  DequantizeLinear: node => [{ dtype: dtypeOf(node, 1), shape: inputShape(node, 0) }],
}

/** Op kinds (`Node.kind`) whose output shape can be inferred. */
export const inferableKinds: ReadonlySet<string> = new Set(Object.keys(RULES))

/** @throws E_TOO_LARGE naming the node, for dims that no tensor has. */
function checkSize(node: Node, shape: Shape): void {
  // Zeros are left out: kernels multiply the others.
  const elements = shape.reduce((product, dim) => product * Math.max(dim, 1), 1)
  if (shape.every(dim => Number.isSafeInteger(dim) && dim >= 0) && elements <= MAX_ELEMENTS && shape.length <= MAX_RANK)
    return
  throw new QuantError(
    'E_TOO_LARGE',
    `${node.kind} "${node.name}" makes a tensor of impossible dims [${shape.join(', ')}]`,
    'The file is damaged, or its shapes do not fit these inputs: export it again.',
  )
}

/**
 * Sets dtype and shape of every output of `node` from its inputs.
 * @throws E_UNSUPPORTED when there is no row for the op, or a shape depends on data; E_TOO_LARGE for absurd shapes.
 */
export function inferNode(node: Node): void {
  const rule = Object.hasOwn(RULES, node.kind) ? RULES[node.kind] : undefined
  if (rule === undefined) {
    throw new QuantError(
      'E_UNSUPPORTED',
      `no shape rule for ${node.kind} (node "${(node.origin ?? node).name}")`,
      'omniquant reads decoder language models. For one that has this operator: add a row in src/graph/infer-shapes.ts.',
    )
  }
  const inferred = rule(node)
  for (const { shape } of inferred) checkSize(node, shape)
  node.outputs.forEach((output, i) => {
    const result = inferred[i]
    if (output && result) {
      output.dtype = result.dtype
      output.shape = result.shape
    }
  })
}
