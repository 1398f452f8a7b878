/** @file Kernels that `inspect` names for the fixture are those that the quantized file then has. */

import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { inspectModel } from '../../src/quant/inspect.ts'
import type { InspectedKernel, InspectedKernels } from '../../src/quant/inspected.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import type { TargetName } from '../../src/quant/terms/targets.ts'
import { testFolder } from '../helpers/test-folder.ts'

const model = resolve(import.meta.dirname, '../../fixtures/tiny-llama')

const kernelsOf = async (path: string, target: TargetName, scheme?: string): Promise<InspectedKernels> =>
  (await inspectModel({ model: path, target, scheme })).kernels!

/** Products by name. K is not said by a file for integer products: their weights are put together when it is loaded. */
const comparable = ({ products }: InspectedKernels): InspectedKernel[] =>
  products
    .map(product => (product.op === 'MatMulIntegerToFloat' ? { ...product, K: undefined } : product))
    .sort((a, b) => (a.name < b.name ? -1 : 1))

test.each<[TargetName, string]>([
  ['cpu', 'w4a16'],
  ['cpu', 'w2a16'],
  ['cpu', 'w8a16'],
  ['webgpu', 'w4a16'],
  ['web', 'w8a8'],
  ['portable', 'w8a16'],
  ['tensorrt-rtx', 'w4a16'],
  ['cuda', 'w3a16'],
])('%s %s: what is foretold is what is written', async (target, scheme) => {
  const foretold = await kernelsOf(model, target, scheme)
  const output = join(testFolder(), 'q.onnx')
  const report = await quantizeModel({ model, output, target, scheme, lwc: false, let: false, threads: 1 })
  const { problem, kernels } = await inspectModel({ model: output, target })
  expect(problem?.code).toBe('E_ALREADY_QUANTIZED')
  expect(comparable(kernels!)).toEqual(comparable(foretold))
  expect(kernels!.scheme).toBeUndefined()
  expect(kernels!.onnxruntime).toEqual(foretold.onnxruntime)
  expect([report.target, report.scheme, report.onnxruntime]).toEqual([target, foretold.scheme, foretold.onnxruntime])
  expect(report.notes.filter(note => note.includes('no fast kernel'))).toEqual([])
})

test('per channel, 2-bit weights for CPUs are in blocks that have a kernel', async () => {
  const output = join(testFolder(), 'q.onnx')
  const options = { model, output, scheme: 'w2a16', perChannel: true, lwc: false, threads: 1 } as const
  await quantizeModel({ ...options, target: 'cpu', lmHead: 'float' })
  const { products } = await kernelsOf(output, 'cpu')
  const down = products.filter(({ name }) => name.includes('down_proj'))
  expect(down.map(({ block, kernel }) => [block, kernel])).toEqual(Array(3).fill([128, 'int8 activations']))
})

test('without a target there are no kernels; the default scheme is that of the target', async () => {
  expect(await inspectModel({ model })).not.toHaveProperty('kernels')
  expect((await kernelsOf(model, 'openvino-npu')).scheme).toBe('w4a16sym')
  expect(await inspectModel({ model, scheme: 'w4a16' })).not.toHaveProperty('kernels')
})
