/** @file Layers of several float types: each product in the type it has in the file, whatever its neighbours are. */

import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { Value } from '../../src/graph/ir.ts'
import { loadModel } from '../../src/graph/onnx-file/load.ts'
import { saveModel } from '../../src/graph/onnx-file/save.ts'
import { int64Tensor } from '../../src/graph/tensor.ts'
import { readFloats } from '../../src/kernels/float16.ts'
import { openModel } from '../../src/kernels/session.ts'
import { quantizeToy } from '../helpers/quantize-toy.ts'
import { testFolder } from '../helpers/test-folder.ts'
import { toyDecoder, TOY, type ToyGraph } from '../helpers/toy-decoder.ts'

const { hidden, heads, ffn } = TOY

/** As model.half() and TorchScript write it: norms and residuals in float32, products in float16, but one of them in float32. */
function halfLayer(toy: ToyGraph, x: Value, scope: string): Value {
  const half = (name: string, value: Value) => toy.cast(`${scope}/${name}`, value, 'float16')
  const normed = half('input_norm', toy.norm(`${scope}/input_norm`, x))
  const parts = ['q', 'k', 'v'].map(part => toy.linear(`${scope}/${part}_proj`, normed, hidden, hidden, 'float16'))
  const wide = parts.map((part, i) => toy.cast(`${scope}/part_${i}`, part, 'float32'))
  const attributes = { num_heads: heads, unidirectional: 1 }
  const mixed = toy.op(`${scope}/attn`, 'com.microsoft.MultiHeadAttention', wide, attributes)
  const middle = toy.op(scope, 'Add', [x, toy.linear(`${scope}/o_proj`, mixed, hidden, hidden)])
  const second = half('post_norm', toy.norm(`${scope}/post_norm`, middle))
  const up = toy.op(`${scope}/act`, 'Relu', [toy.linear(`${scope}/up_proj`, second, hidden, ffn, 'float16')])
  const down = toy.linear(`${scope}/down_proj`, up, ffn, hidden, 'float16')
  return toy.op(scope, 'Add', [middle, toy.cast(`${scope}/down`, down, 'float32')])
}

/** Weights of one type that are read as another: half of them on their way up, the others on their way down. */
function castLayer(toy: ToyGraph, x: Value, scope: string): Value {
  const read = (name: string, rows: number, columns: number, stored: 'float32' | 'float16') => {
    const weight = toy.weight(`${scope}.${name}.weight`, [rows, columns], { dtype: stored })
    return toy.cast(`${scope}/${name}/weight`, weight, stored === 'float16' ? 'float32' : 'float16')
  }
  const product = (name: string, a: Value, w: Value) => toy.op(`${scope}/${name}`, 'MatMul', [a, w])
  const normed = toy.norm(`${scope}/input_norm`, x)
  const parts = ['q_proj', 'k_proj', 'v_proj'].map(part => product(part, normed, read(part, hidden, hidden, 'float16')))
  const attributes = { num_heads: heads, unidirectional: 1 }
  const mixed = toy.op(`${scope}/attn`, 'com.microsoft.MultiHeadAttention', parts, attributes)
  const middle = toy.op(scope, 'Add', [x, product('o_proj', mixed, read('o_proj', hidden, hidden, 'float16'))])
  const half = toy.cast(`${scope}/post_norm`, toy.norm(`${scope}/post_norm`, middle), 'float16')
  const up = toy.op(`${scope}/act`, 'Relu', [product('up_proj', half, read('up_proj', hidden, ffn, 'float32'))])
  const down = product('down_proj', up, read('down_proj', ffn, hidden, 'float32'))
  return toy.op(scope, 'Add', [middle, toy.cast(`${scope}/down`, down, 'float32')])
}

async function logits(path: string): Promise<Float32Array> {
  const session = await openModel(path)
  const ids = int64Tensor(
    [1, 12],
    [...Array(12).keys()].map(i => (i * 31 + 5) % TOY.vocab),
  )
  const outputs = await session.run({ input_ids: ids })
  await session.release()
  return readFloats(outputs['logits']!)
}

test.each(
  [
    ['products in float16 and one in float32', halfLayer],
    ['weights stored in another type than they are read in', castLayer],
  ].flatMap(([name, layer]) =>
    (
      [
        ['w8a16', 0.02],
        ['w4a16g32', 0.2],
        ['w8a8', 0.05],
        ['w4a4', 0.5],
        ['w4a8g32', 0.2],
      ] as const
    ).map(row => [name, layer, ...row] as [string, typeof halfLayer, string, number]),
  ),
)('%s, %s', async (_, layer, scheme, tolerance) => {
  const model = join(testFolder(), 'model.onnx')
  await saveModel(toyDecoder({ layer }).model, model)
  const report = await quantizeToy(model, scheme)
  expect(report.skipped).toEqual([])
  expect(report.blocks.map(({ linears }) => linears.length)).toEqual([6, 6])
  if (scheme === 'w4a4') expect(report.blocks.map(({ mappings }) => mappings!.length)).toEqual([5, 5])
  // Scales have the type of the product, so that nothing is rounded on the way.
  if (scheme.includes('a16')) {
    const { nodes } = loadModel(report.output).graph
    const scales = nodes.filter(({ opType }) => opType === 'MatMulNBits').map(({ inputs }) => inputs[2]!)
    expect(scales.map(({ tensor }) => tensor?.dtype).filter(dtype => dtype === 'float16')).toHaveLength(
      layer === halfLayer ? 10 : 4,
    )
    expect(scales.every(({ tensor }) => tensor !== undefined)).toBe(true)
  }
  const [expected, got] = [await logits(model), await logits(report.output)]
  const worst = Math.max(...expected.map((value, i) => Math.abs(value - got[i]!)))
  expect(worst / (Math.max(...expected) - Math.min(...expected))).toBeLessThan(tolerance)
  expect(worst).toBeGreaterThan(0)
})
