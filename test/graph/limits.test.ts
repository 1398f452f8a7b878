/** @file Structures that would fill the memory or never end are refused quickly, by the limit they break. */

import { closeSync, ftruncateSync, openSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { QuantError } from '../../src/errors.ts'
import { computedLimits } from '../../src/graph/limits.ts'
import { loadModel } from '../../src/graph/onnx-file/load.ts'
import type { Onnx } from '../../src/graph/onnx-file/onnx-proto.ts'
import { recordHeader } from '../../src/graph/onnx-file/wire.ts'
import { linearModel, modelBytes, tensorType } from '../helpers/onnx-files.ts'
import { tempDir } from '../helpers/temp-dir.ts'
import { processorMs } from '../helpers/processor-time.ts'

const folder = tempDir()
const path = join(folder, 'model.onnx')

/** Refusal of `content`, and the memory that took, in MiB. */
function refusal(content: Uint8Array | Onnx.IModelProto): { code: string; message: string; grownMiB: number } {
  writeFileSync(path, content instanceof Uint8Array ? content : modelBytes(content))
  const before = process.memoryUsage().rss
  try {
    loadModel(path)
  } catch (error) {
    if (!(error instanceof QuantError)) throw error
    const { code, message } = error
    return { code, message, grownMiB: (process.memoryUsage().rss - before) / 2 ** 20 }
  }
  throw new Error('nothing was thrown')
}

const repeated = (record: readonly number[], count: number): Buffer =>
  Buffer.concat(Array.from({ length: count / 1000 }, () => Buffer.from(Array(1000).fill(record).flat())))

/** A model whose graph is these bytes. */
const modelAround = (graph: Uint8Array): Buffer =>
  Buffer.concat([Buffer.from([0x08, 10, 0x42, 2, 0x10, 21]), recordHeader(7, graph.length), graph])

describe('a structure too large for the memory', () => {
  it('of millions of empty nodes is counted before anything is made of them', () => {
    const { code, message, grownMiB } = refusal(modelAround(repeated([0x0a, 0], 8_000_000)))
    expect(code).toBe('E_TOO_LARGE')
    expect(message).toMatch(/has more than 16777216 records besides its weights/)
    expect(grownMiB).toBeLessThan(1000)
  })

  it('of more nodes than any decoder has', () => {
    const { code, message } = refusal(modelAround(repeated([0x0a, 3, 0x22, 1, 0x41], 600_000)))
    expect([code, message]).toEqual([
      'E_TOO_LARGE',
      expect.stringMatching(/more than 524288 nodes besides its weights/),
    ])
  })

  it('of one attribute with millions of numbers', () => {
    const ints = Buffer.alloc(20_000_000, 1)
    const attribute = Buffer.concat([Buffer.from([0x0a, 1, 0x61]), recordHeader(8, ints.length), ints])
    const node = Buffer.concat([recordHeader(5, attribute.length), attribute])
    const { code, grownMiB } = refusal(modelAround(Buffer.concat([recordHeader(1, node.length), node])))
    expect(code).toBe('E_TOO_LARGE')
    expect(grownMiB).toBeLessThan(300)
  })

  it('of metadata of hundreds of megabytes is not read', () => {
    // A hole: no disk is used for it.
    const descriptor = openSync(path, 'w')
    const head = Buffer.from([0x08, 10, ...recordHeader(14, 400_000_000)])
    writeSync(descriptor, head)
    ftruncateSync(descriptor, head.length + 400_000_000)
    closeSync(descriptor)
    const before = process.memoryUsage().rss
    expect(() => loadModel(path)).toThrow('has more than 256 MB besides its weights')
    expect((process.memoryUsage().rss - before) / 2 ** 20).toBeLessThan(50)
  })

  it('of bodies in bodies', () => {
    let graph: Onnx.IGraphProto = { name: 'innermost' }
    for (let i = 0; i < 40; i++)
      graph = { node: [{ opType: 'If', output: [`y${i}`], attribute: [{ name: 'then_branch', type: 5, g: graph }] }] }
    const { code, message } = refusal({ irVersion: 10, opsetImport: [{ version: 21 }], graph })
    expect([code, message]).toEqual(['E_TOO_LARGE', 'bodies are nested deeper than 32 graphs'])
  })

  it('of a name no message could show, which is cut', () => {
    const model = linearModel()
    model.graph!.node![0]!.name = 'n'.repeat(1_000_000)
    const { code, message } = refusal(model)
    expect([code, message]).toEqual(['E_TOO_LARGE', expect.stringMatching(/^a name in the file is 1000000 characters/)])
    expect(message.length).toBeLessThan(200)
  })

  it('of tensors and values with hundreds of dimensions', () => {
    const tensor = linearModel()
    tensor.graph!.initializer![1]!.dims = [32, ...Array<number>(500).fill(1)]
    expect(refusal(tensor).message).toBe('the initializer "b" has 501 dimensions, more than 64')
    const value = linearModel()
    value.graph!.input![0]!.type = tensorType(1, Array<number>(500).fill(1))
    expect(refusal(value).message).toBe('"x" has 500 dimensions, more than 64')
  })
})

describe('what takes long', () => {
  it('thousands of bodies are checked in one go, without copying what each can see', () => {
    const model = linearModel()
    const { graph } = model
    const body: Onnx.IGraphProto = { name: 'b', output: [{ name: 'y' }] }
    for (let i = 0; i < 10_000; i++)
      graph!.node!.push({
        opType: 'If',
        input: ['x'],
        output: [`if${i}`],
        attribute: [{ name: 'then_branch', type: 5, g: body }],
      })
    writeFileSync(path, modelBytes(model))
    const took = processorMs(() => expect(loadModel(path).graph.nodes).toHaveLength(10_002))
    expect(took).toBeLessThan(10_000)
  })

  it('thousands of mistakes are counted as quickly as one', () => {
    const model = linearModel()
    for (let i = 0; i < 30_000; i++) model.graph!.node!.push({ opType: 'Add', input: ['x', 'no'], output: ['z'] })
    const message = /"z" is defined more than once; .*; and \d+ more$/
    expect(processorMs(() => expect(refusal(model).message).toMatch(message))).toBeLessThan(10_000)
  })
})

describe('models of today', () => {
  it('of 70 billion parameters and more are far from every limit', () => {
    // 405 billion parameters in bfloat16, a vocabulary of 256k, 16k wide, looked at with 4096 tokens.
    const { bytes, work } = computedLimits(810e9, 4096)
    const largest = 256 * 1024 * 16384 * 4
    const masks = 4 * 126 * 4096 * 4096 * 4
    expect(bytes).toBeGreaterThan(largest)
    expect(work).toBeGreaterThan(masks)
    // A toy looked at with 2048 tokens may have masks of its own in each of its layers.
    expect(computedLimits(1e6, 2048).bytes).toBeGreaterThan(64 * 2048 * 2048 * 4)
  })

  it('with experts written out are read', () => {
    const model = linearModel()
    const { graph } = model
    for (let i = 0; i < 120_000; i++)
      graph!.node!.push({ opType: 'Add', name: `/model/layers.${i}/add`, input: ['x', 'x'], output: [`sum_${i}`] })
    writeFileSync(path, modelBytes(model))
    expect(loadModel(path).graph.nodes).toHaveLength(120_002)
  })
})
