/** @file Values of the user's graph are quantized for those who read them, and for nobody else. */

import { describe, expect, test } from 'vitest'
import { Graph, Node, Value } from '../../../src/graph/ir.ts'
import { tensorOf } from '../../../src/graph/tensor.ts'
import { quantizeWeight } from '../../../src/kernels/weights.ts'
import { packPlanes } from '../../../src/kernels/pack/planes.ts'
import { exportLinears } from '../../../src/quant/export/export-linears.ts'
import { quantizeValues } from '../../../src/quant/export/quantize-values.ts'
import { tempDir } from '../../helpers/temp-dir.ts'
import { noise } from '../../kernels/weights.ts'
import {
  activations,
  fakeQuantizeRows,
  relativeError,
  runModel,
  UserGraph,
  type UserGraphOptions,
} from './user-graph.ts'

const folder = tempDir()
const INTEGER = { format: 'integer' } as const
const quantizer = { bits: 4, symmetric: false }
const negated = (x: Float32Array) => x.map(value => -value)

/** x -> Neg, the value to quantize -> Abs twice; all of them shown. */
function chain(options: UserGraphOptions, shape: readonly (number | string)[]) {
  const user = new UserGraph(options)
  const x = user.input('x', shape)
  const value = user.op('Neg', [x], 'neg')
  for (const name of ['left', 'right']) user.output(user.op('Abs', [value], name), `${name}_out`)
  return { user, value }
}

describe('readers get the value quantized and back', () => {
  test.each([
    { shape: [3, 24], group: 24, symmetric: false, opset: 13 },
    { shape: [3, 24], group: 8, symmetric: false, opset: 13 },
    { shape: [2, 3, 24], group: 8, symmetric: true, opset: 17 },
    { shape: [2, 3, 2, 24], group: 12, symmetric: false, opset: 18 },
    { shape: [2, 3, 2, 24], group: 24, symmetric: true, opset: 21 },
  ])('$shape in groups of $group, symmetric $symmetric, opset $opset', async ({ shape, group, symmetric, opset }) => {
    const { user, value } = chain(
      { opset },
      shape.map((_, i) => `d${i}`),
    )
    const how = { bits: 5, symmetric }
    quantizeValues(user.model, [{ value, group, quantizer: how, channels: 24, rank: shape.length }], INTEGER)
    expect(user.count('Reshape')).toBe(group === 24 ? 0 : 2)
    const rows = shape.reduce((a, b) => a * b) / 24
    const x = activations(rows, 24, 3)
    const results = await runModel(user.model, { x: tensorOf('float32', shape, x) }, folder)
    const expected = fakeQuantizeRows(negated(x), group, how).map(Math.abs)
    for (const name of ['left_out', 'right_out']) expect(relativeError(results[name]!, expected)).toBeLessThan(1e-7)
  })

  test.each([true, false])('in a float16 model; types known: %s', async typed => {
    const { user, value } = chain({ dtype: 'float16', typed }, ['rows', 24])
    quantizeValues(user.model, [{ value, group: 8, quantizer, channels: 24, rank: 2 }], INTEGER)
    const x = activations(4, 24, 3)
    const { left_out } = await runModel(user.model, { x: tensorOf('float32', [4, 24], x) }, folder)
    const expected = fakeQuantizeRows(negated(x), 8, quantizer).map(Math.abs)
    left_out!.forEach((number, i) => expect(Math.abs(number - expected[i]!)).toBeLessThanOrEqual(expected[i]! * 4.9e-4))
  })

  test('bodies of If and Loop are readers too', async () => {
    const user = new UserGraph()
    const value = user.op('Neg', [user.input('x', [2, 8])], 'neg')
    const branch = (opType: string) => {
      const body = new Graph(opType)
      const output = new Value(`in_${opType}`, 'float32')
      body.nodes.push(new Node(opType, [value], [output], new Map(), '', `body_${opType}`))
      body.outputs.push(output)
      return { type: 'graph', value: body } as const
    }
    const condition = new Value('condition', 'bool', [], tensorOf('bool', [], Uint8Array.of(1)))
    user.graph.initializers.push(condition)
    const chosen = new Value('chosen', 'float32')
    const branches = new Map([
      ['then_branch', branch('Abs')],
      ['else_branch', branch('Exp')],
    ])
    user.graph.nodes.push(new Node('If', [condition], [chosen], branches, '', 'if'))
    user.output(chosen, 'y')
    quantizeValues(user.model, [{ value, group: 8, quantizer, channels: 8 }], INTEGER)
    const x = activations(2, 8, 4)
    const { y } = await runModel(user.model, { x: tensorOf('float32', [2, 8], x) }, folder)
    expect(relativeError(y!, fakeQuantizeRows(negated(x), 8, quantizer).map(Math.abs))).toBeLessThan(1e-7)
  })

  test('an input of the graph', async () => {
    const user = new UserGraph()
    const value = user.input('x', ['rows', 16])
    user.output(user.op('Neg', [value], 'neg'), 'y')
    quantizeValues(user.model, [{ value, group: 16, quantizer }], INTEGER)
    const x = activations(3, 16, 6)
    const { y } = await runModel(user.model, { x: tensorOf('float32', [3, 16], x) }, folder)
    expect(relativeError(y!, negated(fakeQuantizeRows(x, 16, quantizer)))).toBeLessThan(1e-7)
  })
})

describe('a value that is an output of the graph', () => {
  async function results(outputs: boolean | undefined) {
    const { user, value } = chain({}, ['rows', 16])
    user.graph.outputs.push(value)
    quantizeValues(user.model, [{ value, group: 8, quantizer, channels: 16, rank: 2, outputs }], INTEGER)
    const x = activations(3, 16, 2)
    const got = await runModel(user.model, { x: tensorOf('float32', [3, 16], x) }, folder)
    expect(user.graph.outputs.map(({ name }) => name)).toEqual(['left_out', 'right_out', 'neg_output_0'])
    return { got, plain: negated(x), quantized: fakeQuantizeRows(negated(x), 8, quantizer) }
  }

  test('stays as it is', async () => {
    const { got, plain, quantized } = await results(undefined)
    expect(relativeError(got.neg_output_0!, plain)).toBe(0)
    expect(relativeError(got.right_out!, quantized.map(Math.abs))).toBeLessThan(1e-7)
  })

  test('is quantized under its name when told so', async () => {
    const { got, quantized } = await results(true)
    expect(relativeError(got.neg_output_0!, quantized)).toBeLessThan(1e-7)
    expect(relativeError(got.right_out!, quantized.map(Math.abs))).toBeLessThan(1e-7)
  })
})

test.each([false, true])('the result of a linear that is replaced as well; as an output: %s', async outputs => {
  const [K, N] = [8, 4]
  const user = new UserGraph()
  const x = user.input('x', ['rows', K])
  const value = user.op('MatMul', [x, user.constant('w', [K, N], new Float32Array(K * N))], 'v_proj')
  const origin = value.producer!
  user.output(user.op('Neg', [value], 'neg'), 'y')
  if (outputs) user.graph.outputs.push(value)
  const how = { bits: 8, group: K, symmetric: true, scaleDtype: 'float32' } as const
  const identity = Float32Array.from({ length: K * N }, (_, i) => (i % N === Math.floor(i / N) ? 1 : 0))
  const packed = packPlanes({ ...quantizeWeight(identity, K, N, how), ...how, K, N })
  quantizeValues(user.model, [{ value, group: N, quantizer, channels: N, outputs }], INTEGER)
  exportLinears(user.model, [{ origin, packed, inFeatures: K, outFeatures: N }], {
    accuracyLevel: 0,
    format: 'integer',
  })
  const numbers = noise(2 * K, 5)
  const got = await runModel(user.model, { x: tensorOf('float32', [2, K], numbers) }, folder)
  const expected = fakeQuantizeRows(
    numbers.filter((_, i) => i % K < N),
    N,
    quantizer,
  )
  expect(relativeError(got.y!, negated(expected))).toBeLessThan(1e-6)
  if (outputs) expect(relativeError(got.v_proj_output_0!, expected)).toBeLessThan(1e-6)
})

test('groups that do not fit are a mistake of ours', () => {
  const { user, value } = chain({}, ['rows', 'columns'])
  expect(() => quantizeValues(user.model, [{ value, group: 5, quantizer, channels: 24 }], INTEGER)).toThrow(
    'groups of 5',
  )
  expect(() => quantizeValues(user.model, [{ value, group: 5, quantizer }], INTEGER)).toThrow('unknown')
  expect(() => quantizeValues(user.model, [{ value, group: 6, quantizer, channels: 24 }], INTEGER)).toThrow(
    'the number of dimensions',
  )
})
