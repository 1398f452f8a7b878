/** @file Loading: finding the file, reading it, and refusing everything that is no ONNX model. */

import { ftruncateSync, mkdirSync, openSync, symlinkSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { QuantError } from '../../../src/errors.ts'
import { loadModel } from '../../../src/graph/onnx-file/load.ts'
import type { Onnx } from '../../../src/graph/onnx-file/onnx-proto.ts'
import { isFileRange } from '../../../src/files/file-range.ts'
import { readElements, readNumbers } from '../../../src/graph/tensor.ts'
import { floatBytes, floatInitializer, linearModel, modelBytes, tensorType } from '../../helpers/onnx-files.ts'
import { tempDir } from '../../helpers/temp-dir.ts'

const folder = tempDir()
let count = 0
const fresh = (name = 'model.onnx'): string => {
  const path = join(folder, String(count++))
  mkdirSync(path)
  return join(path, name)
}
const write = (content: Uint8Array | string, path = fresh()): string => {
  writeFileSync(path, content)
  return path
}
/** A file that is written over and over: much cheaper than new ones. */
const scratch = (): ((content: Uint8Array) => string) => {
  const path = fresh()
  const descriptor = openSync(path, 'w+')
  return content => {
    ftruncateSync(descriptor, content.length)
    writeSync(descriptor, content, 0, content.length, 0)
    return path
  }
}
const errorOf = (action: () => unknown): QuantError => {
  try {
    action()
  } catch (error) {
    if (error instanceof QuantError) return error
    throw error
  }
  throw new Error('nothing was thrown')
}

describe('loadModel', () => {
  it('makes one value per name, with producers, types and values', () => {
    const path = write(modelBytes(linearModel()))
    const model = loadModel(path)
    const { graph } = model
    const [matMul, add] = graph.nodes
    expect([model.irVersion, model.producerName, model.path]).toEqual([10, 'test', path])
    expect(model.opsetImports).toEqual([{ domain: '', version: 21 }])
    expect(matMul!.inputs).toEqual([graph.inputs[0], graph.initializers[0]])
    expect(add!.inputs[0]).toBe(matMul!.outputs[0])
    expect(graph.outputs[0]!.producer).toBe(add)
    expect([graph.inputs[0]!.dtype, graph.inputs[0]!.shape]).toEqual(['float32', ['n', 16]])
    expect(readNumbers(graph.initializers[1]!.tensor!)).toEqual([...Array(32).keys()])
  })

  it('leaves large weights in the file and holds small ones', () => {
    const bytes = modelBytes(linearModel())
    const { graph } = loadModel(write(bytes))
    const [w, b] = graph.initializers.map(value => value.tensor!)
    if (!isFileRange(w!.data)) throw new Error('w was read')
    expect(w!.data.length).toBe(2048)
    expect(bytes.subarray(w!.data.offset, w!.data.offset + 8)).toEqual(floatBytes(2))
    expect(isFileRange(b!.data)).toBe(false)
    expect(readElements(w!)).toEqual(new Float32Array(floatBytes(512).buffer))
  })

  it('sorts nodes of files that are not in order', () => {
    const model = linearModel()
    model.graph!.node!.reverse()
    expect(loadModel(write(modelBytes(model))).graph.nodes.map(node => node.opType)).toEqual(['MatMul', 'Add'])
  })

  it('keeps an initializer that is also an input as one value in both lists', () => {
    const model = linearModel()
    model.graph!.input!.push({ name: 'w', type: tensorType(1, [16, 32]) })
    const { graph } = loadModel(write(modelBytes(model)))
    expect(graph.inputs[1]).toBe(graph.initializers[0])
  })

  it('gives bodies their own scope and lets them see values made later in the file', () => {
    const body = (name: string): Onnx.IGraphProto => ({
      name,
      node: [{ opType: 'Neg', input: ['later'], output: ['inner'] }],
      output: [{ name: 'inner', type: tensorType(1, [2]) }],
    })
    const path = write(
      modelBytes({
        irVersion: 10,
        opsetImport: [{ domain: '', version: 21 }],
        graph: {
          name: 'g',
          input: [
            { name: 'c', type: tensorType(9, []) },
            { name: 'x', type: tensorType(1, [2]) },
          ],
          node: [
            {
              opType: 'If',
              input: ['c'],
              output: ['y'],
              attribute: [
                { name: 'then_branch', type: 5, g: body('then') },
                { name: 'else_branch', type: 5, g: body('else') },
              ],
            },
            { opType: 'Abs', input: ['x'], output: ['later'] },
          ],
          output: [{ name: 'y', type: tensorType(1, [2]) }],
        },
      }),
    )
    const { graph } = loadModel(path)
    expect(graph.nodes.map(node => node.opType)).toEqual(['Abs', 'If'])
    const [thenBody, elseBody] = graph.nodes[1]!.subgraphs()
    expect(thenBody!.nodes[0]!.inputs[0]).toBe(graph.nodes[0]!.outputs[0])
    expect(thenBody!.outputs[0]).not.toBe(elseBody!.outputs[0])
  })

  it('leaves large tensors of Constant nodes and bodies on disk too', () => {
    const model = linearModel()
    model.graph!.node!.unshift({
      opType: 'Constant',
      output: ['c'],
      attribute: [{ name: 'value', type: 4, t: floatInitializer('', [600]) }],
    })
    const attribute = loadModel(write(modelBytes(model))).graph.nodes[0]!.attributes.get('value')
    if (attribute?.type !== 'tensor') throw new Error('not a tensor')
    expect(isFileRange(attribute.value.data)).toBe(true)
    expect(readNumbers(attribute.value)).toEqual([...Array(600).keys()])
  })
})

describe('the file meant by a path', () => {
  const bytes = modelBytes(linearModel())

  it.each([
    ['model.onnx before others', ['model.onnx', 'other.onnx'], 'model.onnx'],
    ['the only .onnx file', ['decoder.onnx', 'config.json'], 'decoder.onnx'],
    ['onnx/model.onnx', ['config.json', 'onnx/model.onnx', 'onnx/model_q4.onnx'], 'onnx/model.onnx'],
    ['the only one in onnx/', ['config.json', 'onnx/model_q4.onnx'], 'onnx/model_q4.onnx'],
  ])('is %s', (_, names, expected) => {
    const path = join(fresh(), '..')
    mkdirSync(join(path, 'onnx'))
    for (const name of names) writeFileSync(join(path, name), bytes)
    expect(loadModel(path).path).toBe(join(path, expected))
  })

  it('is refused with a list of what is there', () => {
    const path = join(fresh(), '..')
    writeFileSync(join(path, 'config.json'), '{}')
    expect(errorOf(() => loadModel(path))).toMatchObject({
      code: 'E_FILE_NOT_FOUND',
      message: expect.stringContaining('config.json'),
    })
    for (const name of ['a.onnx', 'b.onnx']) writeFileSync(join(path, name), bytes)
    expect(errorOf(() => loadModel(path))).toMatchObject({
      code: 'E_FILE_NOT_FOUND',
      message: expect.stringContaining('a.onnx, b.onnx'),
    })
    const hub = join(fresh(), '..')
    mkdirSync(join(hub, 'onnx'))
    for (const name of ['model_q2.onnx', 'model_q4.onnx']) writeFileSync(join(hub, 'onnx', name), bytes)
    expect(errorOf(() => loadModel(hub))).toMatchObject({
      code: 'E_FILE_NOT_FOUND',
      message: expect.stringContaining('onnx/model_q2.onnx, onnx/model_q4.onnx'),
      hint: 'Give the path of the one you mean.',
    })
    expect(errorOf(() => loadModel(join(path, 'nothing.onnx')))).toMatchObject({
      code: 'E_FILE_NOT_FOUND',
      message: expect.stringContaining('a.onnx'),
    })
  })

  it('may be a link', () => {
    const target = write(bytes)
    const link = fresh('link.onnx')
    symlinkSync(target, link)
    const model = loadModel(link)
    expect(model.path).toBe(link)
    expect(model.graph.initializers[0]!.tensor!.data).toMatchObject({ file: target })
  })
})

describe('what is not an ONNX model', () => {
  it.each<[string, string | Uint8Array, RegExp]>([
    ['an empty file', '', /is empty/],
    ['text', 'Hello, this is some text about models.\n', /not a readable ONNX file/],
    ['HTML', '<!DOCTYPE html><html></html>', /not a readable ONNX file/],
    ['a Git LFS pointer', 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n', /Git LFS pointer/],
    ['a zip', Buffer.from('504b0304140000000800', 'hex'), /zip archive/],
    ['zeros', new Uint8Array(5000), /not a readable ONNX file/],
    ['a model without graph', modelBytes({ irVersion: 10, opsetImport: [{ version: 21 }] }), /has no graph/],
    ['a model without opset', modelBytes({ ...linearModel(), opsetImport: [] }), /operator set/],
  ])('%s is refused', (_, content, message) => {
    expect(errorOf(() => loadModel(write(content)))).toMatchObject({
      code: 'E_NOT_ONNX',
      message: expect.stringMatching(message),
    })
  })

  it('random bytes are refused', () => {
    const rewrite = scratch()
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 300 }), bytes => {
        const error = errorOf(() => loadModel(rewrite(bytes)))
        return ['E_NOT_ONNX', 'E_TRUNCATED'].includes(error.code)
      }),
      { numRuns: 300, seed: 1 },
    )
  })

  it.each<[string, (model: Onnx.IGraphProto) => void, RegExp]>([
    ['a cycle', g => void (g.node![0]!.input![1] = 'y'), /cycle through .*(mm|add)/],
    ['a value made twice', g => void (g.node![0]!.output![0] = 'y'), /"y" is defined more than once/],
    ['an initializer given twice', g => void g.initializer!.push(g.initializer![0]!), /"w" is defined more than once/],
    ['an input given twice', g => void g.input!.push(g.input![0]!), /"x" is defined more than once/],
    ['a value nobody makes', g => void (g.node![0]!.input![0] = 'z'), /reads "z", which nothing makes/],
    ['an attribute given twice', twoAttributes, /attribute "a" twice/],
  ])('%s is refused', (_, damage, message) => {
    const model = linearModel()
    damage(model.graph!)
    expect(errorOf(() => loadModel(write(modelBytes(model))))).toMatchObject({
      code: 'E_NOT_ONNX',
      message: expect.stringMatching(message),
    })
  })
})

function twoAttributes(graph: Onnx.IGraphProto): void {
  graph.node![0]!.attribute = [1, 2].map(i => ({ name: 'a', type: 2, i }))
}

describe('damage', () => {
  it('at any length of a file cut short is E_TRUNCATED', () => {
    const bytes = modelBytes(linearModel())
    const rewrite = scratch()
    const codes = new Map<string, number>()
    for (let length = 1; length < bytes.length; length++) {
      const { code } = errorOf(() => loadModel(rewrite(bytes.subarray(0, length))))
      codes.set(code, (codes.get(code) ?? 0) + 1)
    }
    // Cut exactly between two records the file is a shorter message: then the graph or the operator set is what it lacks.
    expect([...codes.keys()].sort()).toEqual(['E_NOT_ONNX', 'E_TRUNCATED'])
    expect(codes.get('E_NOT_ONNX')).toBe(3)
  })

  it('of single bytes never ends in anything but a model or a QuantError', () => {
    const bytes = modelBytes(linearModel())
    const rewrite = scratch()
    // Weights may be anything: damage is aimed at what is around them.
    const structure = [...bytes.keys()].filter(i => i < 300 || i > bytes.length - 200)
    const mutation = fc.record({ at: fc.constantFrom(...structure), byte: fc.nat(255) })
    let refused = 0
    fc.assert(
      fc.property(fc.array(mutation, { minLength: 1, maxLength: 3 }), mutations => {
        const damaged = bytes.slice()
        for (const { at, byte } of mutations) damaged[at] = byte
        try {
          loadModel(rewrite(damaged))
        } catch (error) {
          if (!(error instanceof QuantError) || error.code === 'E_INTERNAL') throw error
          refused++
        }
      }),
      { numRuns: 4000, seed: 7 },
    )
    expect(refused).toBeGreaterThan(1000)
  })

  it('with absurd lengths allocates nothing', () => {
    // A graph that claims 2^50 bytes, and a tensor that claims dims of 2^40.
    const huge = Uint8Array.from([0x08, 10, 0x3a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01, 1, 2, 3])
    expect(errorOf(() => loadModel(write(huge))).code).toBe('E_TRUNCATED')
    const model = linearModel()
    model.graph!.initializer![0]!.dims = [2 ** 20, 2 ** 20]
    expect(errorOf(() => loadModel(write(modelBytes(model))))).toMatchObject({
      code: 'E_TRUNCATED',
      message: expect.stringContaining('"w"'),
    })
  })

  it('by endless nesting is refused', () => {
    let graph: Onnx.IGraphProto = { name: 'x'.repeat(2000) }
    for (let i = 0; i < 300; i++) graph = { node: [{ attribute: [{ name: 'a', type: 5, g: graph }] }] }
    const nested = modelBytes({ irVersion: 10, opsetImport: [{ version: 21 }], graph })
    expect(errorOf(() => loadModel(write(nested))).code).toBe('E_NOT_ONNX')
    // The same through messages that are copied whole: types of sequences of sequences of ...
    let content = Buffer.alloc(0)
    for (let i = 0; i < 30_000; i++) {
      const header = Buffer.from(varints(content.length, i % 2 === 0 ? 0x22 : 0x0a))
      content = Buffer.concat([header, content], header.length + content.length)
    }
    const type = Buffer.concat([Buffer.from(varints(content.length, 0x12)), content])
    const info = Buffer.concat([Buffer.from(varints(type.length, 0x5a)), type])
    const model = Buffer.concat([Buffer.from([0x08, 10]), Buffer.from(varints(info.length, 0x3a)), info])
    expect(errorOf(() => loadModel(write(model))).code).toBe('E_NOT_ONNX')
  })
})

function varints(length: number, tag: number): number[] {
  const bytes = [tag]
  for (; length > 127; length = Math.floor(length / 128)) bytes.push((length % 128) | 128)
  return [...bytes, length]
}
