/** @file The door to onnxruntime: graphs in, numbers out, errors in our own terms, weights mapped from disk. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { QuantError } from '../../src/errors.ts'
import { Builder } from '../../src/graph/builder.ts'
import { encodeModel } from '../../src/graph/onnx-file/encode.ts'
import { newModel, Node, Value } from '../../src/graph/ir.ts'
import { floatTensor, int64Tensor, readNumbers, tensorOf } from '../../src/graph/tensor.ts'
import { compile, openModel, runGraph } from '../../src/kernels/session.ts'

const folder = mkdtempSync(join(tmpdir(), 'omniquant-session-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** y = x * w, and twice = 2x. */
function product(w: Parameters<Builder['initializer']>[1]): Builder {
  const g = new Builder()
  const x = g.input('x', 'float32', [1, 2])
  g.output(g.matMul(x, g.initializer('w', w)), 'y')
  g.output(g.scale(x, 2), 'twice')
  return g
}

const x = floatTensor([1, 2], [1, 2])
const identity = floatTensor([2, 2], [1, 0, 0, 1])

/** The error a promise is rejected with. */
const rejection = async (promise: Promise<unknown>): Promise<QuantError> =>
  promise.then(
    () => expect.unreachable('nothing was thrown'),
    error => error as QuantError,
  )

test('compiles, says what goes in and out, runs repeatedly, returns only what is fetched', async () => {
  const session = await compile(product(identity).graph)
  expect(session.inputs).toEqual([{ name: 'x', dtype: 'float32', shape: [1, 2] }])
  expect(session.outputs.map(({ name }) => name)).toEqual(['y', 'twice'])
  const all = await session.run({ x })
  expect(readNumbers(all['y']!)).toEqual([1, 2])
  expect(readNumbers(all['twice']!)).toEqual([2, 4])
  expect(Object.keys(await session.run({ x }, ['twice']))).toEqual(['twice'])
  await session.release()
})

test('carries every type a graph may have at its edge', async () => {
  const g = new Builder()
  const tensors = {
    f32: floatTensor([2], [1.5, -2]),
    f64: floatTensor([2], [Math.PI, 1], 'float64'),
    i32: tensorOf('int32', [2], Int32Array.of(-1, 7)),
    i64: int64Tensor([2], [2 ** 40, -3]),
    u8: tensorOf('uint8', [2], Uint8Array.of(0, 255)),
    bool: tensorOf('bool', [2], Uint8Array.of(1, 0)),
    f16: tensorOf('float16', [2], Uint16Array.of(0x3c00, 0xc000)),
  }
  for (const [name, tensor] of Object.entries(tensors))
    g.output(g.op('Identity', [g.input(name, tensor.dtype, [2])]), `${name}_out`)
  const result = await runGraph(g.graph, tensors)
  for (const [name, tensor] of Object.entries(tensors)) {
    expect(result[`${name}_out`]!.dtype).toBe(tensor.dtype)
    expect(readNumbers(result[`${name}_out`]!)).toEqual(readNumbers(tensor))
  }
})

test('maps tensors not read yet from where they are, at an offset', async () => {
  const numbers = (file: string, ...values: number[]) => {
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, new Uint8Array(Float32Array.from(values).buffer))
    return file
  }
  const file = numbers(join(folder, 'weights.bin'), 9, 9, 1, 2, 3, 4)
  const range = { dtype: 'float32', dims: [2, 2], data: { file, offset: 8, length: 16 } } as const
  const { y } = await runGraph(product(range).graph, { x })
  expect(readNumbers(y!)).toEqual([7, 10])

  // Files of one program in several folders.
  const g = new Builder()
  const parts = ['a/one.bin', 'b/c/two.bin', 'three.bin'].map((name, i) => {
    const data = { file: numbers(join(folder, name), i + 1), offset: 0, length: 4 }
    return g.initializer(`part${i}`, { dtype: 'float32', dims: [1], data })
  })
  g.output(g.concat(parts, 0), 'all')
  expect(readNumbers((await runGraph(g.graph))['all']!)).toEqual([1, 2, 3])
})

test('a data file that is not there is onnxruntime’s to report', async () => {
  const range = {
    dtype: 'float32',
    dims: [2, 2],
    data: { file: join(folder, 'absent.bin'), offset: 0, length: 16 },
  } as const
  expect(await rejection(runGraph(product(range).graph, { x }))).toMatchObject({
    code: 'E_RUNTIME',
    message: expect.stringContaining('absent.bin'),
  })
})

test('a graph onnxruntime refuses is E_RUNTIME, with its name and onnxruntime’s words', async () => {
  const g = product(identity)
  g.graph.name = 'broken'
  g.graph.nodes.push(new Node('NoSuchOp', [g.graph.inputs[0]], [new Value('z')]))
  const error = await rejection(compile(g.graph))
  expect(error).toBeInstanceOf(QuantError)
  expect(error.code).toBe('E_RUNTIME')
  expect(error.message).toMatch(/"broken".*NoSuchOp/s)
})

test('a run that fails names the node and gives the reason, without status codes', async () => {
  const g = new Builder()
  const row = g.op('Gather', [g.initializer('table', identity), g.input('at', 'int64', [1])], { axis: 0 })
  g.output(row, 'row')
  row.producer!.name = 'lookup'
  const session = await compile(g.graph, { optimization: 'disabled' })
  const { message } = await rejection(session.run({ at: int64Tensor([1], [7]) }))
  expect(message).toMatch(/^onnxruntime could not run Gather "lookup": .*out of .*bounds.*idx=7/)
  expect(message).not.toContain('Non-zero status')
  await session.release()
})

test('feeds that do not fit are E_RUNTIME', async () => {
  const session = await compile(product(identity).graph)
  expect((await rejection(session.run({}))).code).toBe('E_RUNTIME')
  expect((await rejection(session.run({ x: floatTensor([1, 3], [1, 2, 3]) }))).code).toBe('E_RUNTIME')
  await session.release()
})

test('release gives the session back: it cannot run again', async () => {
  const session = await compile(product(identity).graph)
  await session.release()
  await expect(session.run({ x })).rejects.toThrow()
})

test('openModel runs a file, and names a file it cannot read', async () => {
  const path = join(folder, 'model.onnx')
  writeFileSync(path, encodeModel(newModel(product(identity).graph)))
  const session = await openModel(path, { threads: 1, optimization: 'disabled' })
  expect(readNumbers((await session.run({ x }))['y']!)).toEqual([1, 2])
  await session.release()
  writeFileSync(path, 'this is not a model')
  const error = await rejection(openModel(path))
  expect(error.code).toBe('E_RUNTIME')
  expect(error.message).toContain(path)
})
