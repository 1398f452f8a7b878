/** @file Rows quantized in the user's graph: the numbers of the definition, whatever the opset. */

import { expect, test } from 'vitest'
import { GraphWriter } from '../../../src/graph/graph-writer.ts'
import { tensorOf } from '../../../src/graph/tensor.ts'
import { emitProduct } from '../../../src/kernels/steps.ts'
import { fakeQuantizeTokens } from '../../../src/kernels/tokens.ts'
import { requireOpset, writeQuantizedRows } from '../../../src/quant/export/quantize-rows.ts'
import { tempDir } from '../../helpers/temp-dir.ts'
import { activations, runModel, UserGraph } from './user-graph.ts'

const folder = tempDir()

test.each([11, 17, 18, 21])('the file gives the definition’s numbers, bit for bit; opset %s', async opset => {
  const x = activations(9, 64, 5)
  const clipped = { min: Math.fround(0.7), max: Math.fround(0.9) }
  for (const { symmetric, ratios } of [
    { symmetric: false },
    { symmetric: true },
    { symmetric: false, ratios: clipped },
  ])
    for (const bits of [2, 4, 8]) {
      const user = new UserGraph({ opset })
      const value = user.input('x', ['rows', 64])
      const writer = new GraphWriter(user.model)
      const g = writer.at({ values: 'x', nodes: 'x' })
      const product = emitProduct(g, writeQuantizedRows(g, value, { bits, symmetric, ratios }))
      user.graph.nodes.push(...writer.take())
      user.output(product, 'y')
      const { y } = await runModel(user.model, { x: tensorOf('float32', [9, 64], x) }, folder)
      const plain = (numbers: Float32Array) => Array.from(numbers, number => number + 0)
      expect(plain(y!)).toEqual(plain(fakeQuantizeTokens(x, 64, { bits, symmetric, ratios })))
    }
})

test('models below opset 11 are refused', () => {
  const { model } = new UserGraph({ opset: 10 })
  expect(() => {
    requireOpset(new GraphWriter(model))
  }).toThrow(expect.objectContaining({ code: 'E_UNSUPPORTED' }))
})
