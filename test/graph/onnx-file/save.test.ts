/** @file Saved models: they are read back the same, and when writing fails nothing has changed. */

import {
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Builder } from '../../../src/graph/builder.ts'
import type { DType } from '../../../src/graph/dtype.ts'
import { type Attribute, type Model, newModel, Node, Value } from '../../../src/graph/ir.ts'
import { loadModel } from '../../../src/graph/onnx-file/load.ts'
import { onnx } from '../../../src/graph/onnx-file/onnx-proto.ts'
import { print } from '../../../src/graph/print.ts'
import { chooseLayout, saveModel } from '../../../src/graph/onnx-file/save.ts'
import { floatTensor, readBytes, type Tensor } from '../../../src/graph/tensor.ts'
import { isFileRange } from '../../../src/files/file-range.ts'
import { openModel } from '../../../src/kernels/session.ts'
import { tempDir } from '../../helpers/temp-dir.ts'
import { toyDecoder } from '../../helpers/toy-decoder.ts'

const base = tempDir()
let count = 0
const fresh = (): string => join(base, String(count++))

const ramp = (dims: readonly number[], step: number): Tensor =>
  floatTensor(
    dims,
    Array.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, i) => (i % 97) * step),
  )

/** A node whose output type is given, for ops without a shape rule. */
function untyped(g: Builder, opType: string, inputs: Value[], attributes: Record<string, Attribute>, shape: number[]) {
  const output = new Value(g.names.fresh(opType.toLowerCase()), 'float32', shape)
  g.graph.nodes.push(new Node(opType, inputs, [output], new Map(Object.entries(attributes))))
  return output
}

/** y = x (w + b) + (sum x > 0 ? x v1 : -x v2) c: large weights in the graph, a Constant and bodies; a small bias. */
function bigAndSmall(): Model {
  const g = new Builder()
  const x = g.input('x', 'float32', [2, 16])
  const weight = g.add(g.initializer('w', ramp([16, 32], 0.01)), g.initializer('b', ramp([32], 0.5)))
  const body = (name: string, step: number): Attribute => {
    const b = new Builder(undefined, g.names)
    b.output(b.matMul(name === 'then' ? x : b.neg(x), b.initializer(`v_${name}`, ramp([16, 32], step))))
    b.graph.name = name
    return { type: 'graph', value: b.graph }
  }
  const condition = g.op('Greater', [g.reduceSum(x, [0, 1], false), g.scalar(0)])
  const branches = { then_branch: body('then', 0.02), else_branch: body('else', 0.03) }
  const branch = untyped(g, 'If', [condition], branches, [2, 32])
  const c = untyped(g, 'Constant', [], { value: { type: 'tensor', value: ramp([32, 32], 0.01) } }, [32, 32])
  g.output(g.add(g.matMul(x, weight), g.matMul(branch, c)), 'y')
  return newModel(g.graph)
}

const x = ramp([2, 16], 0.1)
async function resultOf(path: string): Promise<unknown> {
  const session = await openModel(path)
  try {
    return (await session.run({ x }))['y']
  } finally {
    await session.release()
  }
}

/** Name and content of everything in a folder. */
const contentOf = (folder: string) =>
  existsSync(folder) ? readdirSync(folder).map(name => [name, readFileSync(join(folder, name), 'hex')]) : 'nothing'

describe('saveModel', () => {
  it('writes one file that onnxruntime and loadModel read', async () => {
    const path = join(fresh(), 'a', 'b', 'model.onnx')
    const saved = await saveModel(bigAndSmall(), path)
    expect(saved).toEqual({ files: [path], sizeBytes: readFileSync(path).length })
    expect(readdirSync(join(path, '..'))).toEqual(['model.onnx'])
    expect(await resultOf(path)).toMatchObject({ dims: [2, 32] })
  })

  it('writes weights to a data file with the same results, everywhere a weight may be', async () => {
    const [inline, external] = [join(fresh(), 'model.onnx'), join(fresh(), 'model.onnx')]
    await saveModel(bigAndSmall(), inline)
    const { files } = await saveModel(bigAndSmall(), external, { externalData: true })
    expect(files).toEqual([external, `${external}.data`])
    expect(await resultOf(external)).toEqual(await resultOf(inline))
    // w, two bodies of 2 KiB and a Constant of 4 KiB; the bias of 128 bytes stays.
    expect(readFileSync(files[1]!).length).toBe(3 * 2048 + 4096)
    expect(readFileSync(external).length).toBeLessThan(2500)
  })

  it.each([
    [true, true],
    [true, false],
    [false, true],
    [false, false],
  ])('saved (data file: %s), loaded and saved again (%s) says and computes the same', async (first, second) => {
    const [one, two] = [join(fresh(), 'model.onnx'), join(fresh(), 'model.onnx')]
    await saveModel(bigAndSmall(), one, { externalData: first })
    const model = loadModel(one)
    await saveModel(model, two, { externalData: second })
    expect(print(loadModel(two).graph)).toBe(print(model.graph))
    expect(await resultOf(two)).toEqual(await resultOf(one))
  })

  it("'auto' does as the source did", async () => {
    for (const externalData of [true, false]) {
      const [one, two] = [join(fresh(), 'model.onnx'), join(fresh(), 'model.onnx')]
      await saveModel(bigAndSmall(), one, { externalData })
      expect((await saveModel(loadModel(one), two)).files.length).toBe(externalData ? 2 : 1)
    }
  })

  it('gives the same bytes every time', async () => {
    for (const externalData of [true, false]) {
      const [one, two] = [fresh(), fresh()]
      for (const folder of [one, two]) await saveModel(bigAndSmall(), join(folder, 'm.onnx'), { externalData })
      expect(contentOf(one)).toEqual(contentOf(two))
    }
  })

  it('aligns weights, large ones to pages, and writes shared ones once', async () => {
    const g = new Builder()
    const large = ramp([512, 512], 1)
    const shared = ramp([300], 1)
    g.initializer('odd', { dtype: 'uint8', dims: [1030], data: new Uint8Array(1030) })
    g.initializer('a', shared)
    g.initializer('b', shared)
    g.initializer('large', large)
    g.output(g.initializer('small', ramp([2], 1)))
    const path = join(fresh(), 'model.onnx')
    await saveModel(newModel(g.graph), path, { externalData: true, dataFileName: 'weights.bin' })
    const tensors = onnx.ModelProto.decode(readFileSync(path)).graph!.initializer!
    const entries = tensors.map(({ externalData }) => externalData!.map(({ value }) => value))
    expect(entries).toEqual([
      ['weights.bin', '0', '1030'],
      ['weights.bin', '1088', '1200'],
      ['weights.bin', '1088', '1200'],
      ['weights.bin', '4096', '1048576'],
      [],
    ])
    const [, a, b, loaded] = loadModel(path).graph.initializers
    expect(Buffer.compare(readBytes(loaded!.tensor!), readBytes(large))).toBe(0)
    // Tied weights stay tied through another round.
    expect(a!.tensor!.data).toEqual(b!.tensor!.data)
    const again = join(fresh(), 'again.onnx')
    expect((await saveModel(loadModel(path), again)).files[1]).toBe(`${again}.data`)
    expect(Buffer.compare(readFileSync(`${again}.data`), readFileSync(join(path, '..', 'weights.bin')))).toBe(0)
  })

  it('keeps tensors of every type and size', async () => {
    const widths: [DType, number][] = [
      ['float32', 4],
      ['int64', 8],
      ['uint8', 1],
      ['bool', 1],
      ['float16', 2],
      ['bfloat16', 2],
      ['float64', 8],
      ['uint4', 0.5],
      ['int2', 0.25],
      ['float8e4m3fn', 1],
    ]
    const tensor = fc
      .tuple(fc.constantFrom(...widths), fc.array(fc.nat(40), { maxLength: 3 }), fc.nat(255))
      .map(([[dtype, width], dims, seed]): Tensor => {
        const length = Math.ceil(dims.reduce((a, b) => a * b, 1) * width)
        return { dtype, dims, data: Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 255) }
      })
    const folder = fresh()
    await fc.assert(
      fc.asyncProperty(
        fc.array(tensor, { minLength: 3, maxLength: 12 }),
        fc.boolean(),
        async (tensors, externalData) => {
          const g = new Builder()
          for (const each of tensors) g.initializer('t', each)
          const path = join(folder, 'model.onnx')
          await saveModel(newModel(g.graph), path, { externalData })
          const loaded = loadModel(path).graph.initializers.map(value => value.tensor!)
          expect(loaded.map(({ dtype, dims }) => [dtype, dims])).toEqual(
            tensors.map(({ dtype, dims }) => [dtype, dims]),
          )
          expect(loaded.map(readBytes)).toEqual(tensors.map(readBytes))
        },
      ),
      { numRuns: 15, seed: 3 },
    )
  })

  it('keeps strings', async () => {
    const g = new Builder()
    const strings = [Buffer.from('a'), Buffer.from([0xff])]
    g.initializer('s', { dtype: 'string', dims: [2], data: new Uint8Array(0), strings })
    const path = join(fresh(), 'model.onnx')
    await saveModel(newModel(g.graph), path, { externalData: true })
    expect(loadModel(path).graph.initializers[0]!.tensor!.strings!.map(text => [...text])).toEqual([[97], [255]])
  })
})

describe('saveModel refuses', () => {
  const refusal = (message: RegExp) =>
    expect.objectContaining({
      code: 'E_OUTPUT',
      message: expect.stringMatching(message),
      hint: expect.stringMatching(/./),
    })

  it('to write over what the model is read from, by any name', async () => {
    const folder = fresh()
    const path = join(folder, 'model.onnx')
    await saveModel(bigAndSmall(), path, { externalData: true })
    const model = loadModel(path)
    symlinkSync(path, join(folder, 'link.onnx'))
    linkSync(`${path}.data`, join(folder, 'hard.data'))
    const before = contentOf(folder)
    for (const target of [path, join(folder, 'link.onnx'), join(folder, 'hard.data')]) {
      await expect(saveModel(model, target)).rejects.toThrow(refusal(/is what the model is read from/))
    }
    for (const dataFileName of ['model.onnx', 'model.onnx.data', 'hard.data']) {
      const saving = saveModel(model, join(folder, 'other.onnx'), { externalData: true, dataFileName })
      await expect(saving).rejects.toThrow(refusal(/is what the model is read from/))
    }
    expect(contentOf(folder)).toEqual(before)
  })

  it('a folder, a path through a file, and data files elsewhere', async () => {
    const folder = fresh()
    mkdirSync(folder)
    writeFileSync(join(folder, 'file'), '')
    await expect(saveModel(bigAndSmall(), folder)).rejects.toThrow(refusal(/is a folder/))
    const through = join(folder, 'file', 'model.onnx')
    await expect(saveModel(bigAndSmall(), through)).rejects.toThrow(refusal(/cannot write to .*file: EEXIST/))
    for (const dataFileName of ['../out.data', 'sub/out.data', 'model.onnx', '..', '']) {
      const saving = saveModel(bigAndSmall(), join(folder, 'model.onnx'), { externalData: true, dataFileName })
      await expect(saving).rejects.toThrow(refusal(/cannot be the name of the data file/))
    }
    expect(readdirSync(folder)).toEqual(['file'])
  })

  it('and leaves what was there when weights turn out to be gone', async () => {
    const source = join(fresh(), 'model.onnx')
    await saveModel(bigAndSmall(), source, { externalData: true })
    const folder = fresh()
    const path = join(folder, 'model.onnx')
    for (const externalData of [false, true]) {
      await saveModel(bigAndSmall(), path, { externalData })
      const before = contentOf(folder)
      const model = loadModel(source)
      renameSync(`${source}.data`, `${source}.away`)
      const saving = saveModel(model, path, { externalData })
      await expect(saving).rejects.toThrow(expect.objectContaining({ code: 'E_EXTERNAL_DATA' }))
      renameSync(`${source}.away`, `${source}.data`)
      expect(contentOf(folder)).toEqual(before)
    }
  })

  it('and puts the old data file back when the model cannot take its place', async () => {
    const folder = fresh()
    const path = join(folder, 'model.onnx')
    mkdirSync(folder)
    writeFileSync(`${path}.data`, 'old')
    const saving = saveModel(bigAndSmall(), path, { externalData: true })
    // The name is taken by a folder only after the first checks.
    mkdirSync(path)
    await expect(saving).rejects.toThrow(refusal(/cannot write/))
    rmSync(path, { recursive: true })
    expect(contentOf(folder)).toEqual([['model.onnx.data', Buffer.from('old').toString('hex')]])
  })

  it('one file of more than 2 GiB, which auto splits', async () => {
    const g = new Builder()
    // A range nobody reads: the file is shorter, which only copying would notice.
    const data = { file: join(base, 'none'), offset: 0, length: 2 ** 31 }
    g.output(g.initializer('w', { dtype: 'uint8', dims: [2 ** 31], data }))
    const path = join(fresh(), 'model.onnx')
    await expect(saveModel(newModel(g.graph), path, { externalData: false })).rejects.toThrow(refusal(/2\.15 GB/))
    await expect(saveModel(newModel(g.graph), path)).rejects.toThrow(
      expect.objectContaining({ code: 'E_EXTERNAL_DATA' }),
    )
    expect(isFileRange(data)).toBe(true)
  })
})

it.each([
  [1.4e9, 'when-large', 1],
  [1.6e9, 'when-large', 2],
  [1.6e9, false, 1],
  [1e6, true, 2],
] as const)('%d bytes with externalData %s are %d files', (bytes, externalData, count) => {
  const { model } = toyDecoder({ layers: 1 })
  const weight = model.graph.initializers.find(({ tensor }) => tensor?.dtype === 'float32')!
  weight.tensor = { ...weight.tensor!, dims: [bytes / 4], data: { file: '/nowhere', offset: 0, length: bytes } }
  const layouts = chooseLayout(model, '/out/q.onnx', { externalData })
  expect(layouts.map(({ path }) => path)).toEqual(['/out/q.onnx', '/out/q.onnx.data'].slice(0, count))
  expect(layouts.at(-1)!.sizeBytes).toBeGreaterThan(bytes)
})

it('one file above 2 GiB is refused', () => {
  const { model } = toyDecoder({ layers: 1 })
  const weight = model.graph.initializers.find(({ tensor }) => tensor?.dtype === 'float32')!
  const length = 2 ** 31
  weight.tensor = { ...weight.tensor!, dims: [length / 4], data: { file: '/nowhere', offset: 0, length } }
  expect(() => chooseLayout(model, '/out/q.onnx', { externalData: false })).toThrow(/an ONNX file ends at 2 GiB/)
})
