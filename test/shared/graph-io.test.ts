/** @file Every model of the development zoo through loadModel and saveModel: same text, same fields, same numbers. */

import { readdirSync, readFileSync } from 'node:fs'
import { basename, dirname, join, relative } from 'node:path'
import { describe, expect, it } from 'vitest'
import { loadModel } from '../../src/graph/onnx-file/load.ts'
import type { Graph } from '../../src/graph/ir.ts'
import { type Onnx, onnx, unknownFields } from '../../src/graph/onnx-file/onnx-proto.ts'
import { print } from '../../src/graph/print.ts'
import { saveModel } from '../../src/graph/onnx-file/save.ts'
import { byteLength } from '../../src/graph/dtype.ts'
import { elementCount, readBytes, type Tensor } from '../../src/graph/tensor.ts'
import { isFileRange } from '../../src/files/file-range.ts'
import { openModel, type Session, type Tensors } from '../../src/kernels/session.ts'
import { needsShared, sharedDir } from '../helpers/shared.ts'
import { tempDir } from '../helpers/temp-dir.ts'

const zoo = sharedDir === undefined ? '' : join(sharedDir, 'zoo')
const files = zoo === '' ? [] : onnxFiles(zoo)

function onnxFiles(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap(entry => {
    const path = join(folder, entry.name)
    return entry.isDirectory() ? onnxFiles(path) : entry.name.endsWith('.onnx') ? [path] : []
  })
}

const TOKENS = 16
const HEAD_SIZE = 16

/** 16 tokens and an empty past. Caches are told by their rank: names are permuted in one file. */
function feedsFor(session: Session): Tensors {
  return Object.fromEntries(
    session.inputs.map(({ name, dtype, shape }) => {
      const cache = [1, 1, 0, HEAD_SIZE]
      const dims = shape.map((dim, i) =>
        typeof dim === 'number' && dim >= 0 ? dim : shape.length === 4 ? cache[i]! : i === 0 ? 1 : TOKENS,
      )
      const data = new Uint8Array(byteLength(dtype!, elementCount(dims)))
      if (dtype === 'int64') new BigInt64Array(data.buffer).fill(1n)
      if (dtype === 'int32') new Int32Array(data.buffer).fill(1)
      return [name, { dtype: dtype!, dims, data } satisfies Tensor]
    }),
  )
}

/** Same bytes: `toEqual` takes seconds for a megabyte. */
const sameBytes = (a: readonly Tensor[], b: readonly Tensor[]): boolean =>
  a.length === b.length && a.every((tensor, i) => Buffer.compare(readBytes(tensor), readBytes(b[i]!)) === 0)

/** Outputs, or the reason there are none. */
async function outcomeOf(path: string): Promise<Tensors | string> {
  let session: Session | undefined
  try {
    session = await openModel(path, { threads: 1 })
    return await session.run(feedsFor(session))
  } catch (error) {
    return String(error).replaceAll(dirname(path), '')
  } finally {
    await session?.release()
  }
}

/** All messages of a model with what the schema does not know of them, without the places of weights. */
function fieldsOf(path: string): unknown {
  const strip = (part: unknown): unknown => {
    if (typeof part !== 'object' || part === null) return part
    if (part instanceof Uint8Array) return Buffer.from(part).toString('hex')
    if (Array.isArray(part)) return part.map(strip)
    if ('low' in part && 'high' in part) return String(part)
    const tensor = part as Onnx.ITensorProto
    const skipped = 'dataType' in part ? new Set(['rawData', 'externalData', 'dataLocation', ...TYPED]) : new Set()
    // An empty string and none are the same to every reader.
    const entries = Object.entries(part).filter(([key, value]) => !skipped.has(key) && value !== '')
    return {
      ...Object.fromEntries(entries.map(([key, value]) => [key, strip(value)])),
      unknown: Buffer.from(unknownFields(tensor) ?? []).toString('latin1'),
    }
  }
  return strip(onnx.ModelProto.decode(new Uint8Array(readFileSync(path))))
}
const TYPED = ['floatData', 'int32Data', 'int64Data', 'doubleData', 'uint64Data']

// ../shared/README.md says why.
const KNOWN_NOT_TO_RUN = ['genai-gptoss', 'genai-phi2']

describe('the zoo, loaded and saved', needsShared, () => {
  const folder = tempDir()
  const ran: string[] = []

  it.each(files.map(file => [relative(zoo, file), file]))('%s', async (name, file) => {
    const model = loadModel(file)
    const path = join(folder, name)
    const { files: written } = await saveModel(model, path)
    const external = model.graph.initializers.some(
      ({ tensor }) => isFileRange(tensor!.data) && basename(tensor!.data.file) !== basename(file),
    )
    expect(written.length).toBe(external ? 2 : 1)

    const again = loadModel(path)
    expect(print(again.graph)).toBe(print(model.graph))
    const weights = (graph: Graph) => graph.initializers.map(({ tensor }) => tensor!)
    expect(sameBytes(weights(again.graph), weights(model.graph))).toBe(true)
    // ORT-optimized files are not in order: sorted, they differ in nothing else.
    if (!name.startsWith('ort-optimized'))
      expect(JSON.stringify(fieldsOf(path)) === JSON.stringify(fieldsOf(file))).toBe(true)

    const outcome = await outcomeOf(file)
    const outcomeAfter = await outcomeOf(path)
    if (typeof outcome === 'string' || typeof outcomeAfter === 'string') expect(outcomeAfter).toBe(outcome)
    else {
      expect(Object.keys(outcomeAfter)).toEqual(Object.keys(outcome))
      expect(sameBytes(Object.values(outcomeAfter), Object.values(outcome))).toBe(true)
      ran.push(name)
    }
  })

  it('mostly runs', () => {
    const others = files.map(file => relative(zoo, file)).filter(name => !ran.includes(name))
    expect(others.map(name => dirname(name))).toEqual(KNOWN_NOT_TO_RUN)
  })

  it('has metadata of nodes, which survives', async () => {
    const path = join(folder, 'dynamo-llama-opset23', 'model.onnx')
    const [node] = onnx.ModelProto.decode(new Uint8Array(readFileSync(path))).graph!.node!
    expect(Buffer.from(unknownFields(node!) ?? []).toString('latin1')).toContain('pkg.torch')
  })
})
