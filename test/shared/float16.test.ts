/** @file Real exporters' files as float16 models: the same logits within float16, with a cache, padding, and after quantization. */

import { dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { feedsFor, nextPast, type Past } from '../../src/decoder/feeds.ts'
import { describeIo, type ModelIo } from '../../src/decoder/model-io.ts'
import { loadModel } from '../../src/graph/onnx-file/load.ts'
import { saveModel } from '../../src/graph/onnx-file/save.ts'
import { readFloats } from '../../src/kernels/float16.ts'
import { openModel, type Session, type Tensors } from '../../src/kernels/session.ts'
import { toFloat16 } from '../../src/quant/float16/to-float16.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import { retype } from '../helpers/retype.ts'
import { needsShared } from '../helpers/shared.ts'
import { testFolder } from '../helpers/test-folder.ts'
import { modelOf } from './files.ts'
import { PLAIN } from '../helpers/method.ts'

const [TOKENS, PROMPT] = [24, 21]
const tokens = BigInt64Array.from({ length: TOKENS }, (_, i) => BigInt((i * 89 + 7) % 251))

/** Greatest difference, as a part of the range of `expected`. */
function difference(got: Float32Array, expected: Float32Array): number {
  const range = Math.max(...expected) - Math.min(...expected)
  return Math.max(...expected.map((value, i) => Math.abs(value - got[i]!))) / range
}

async function withSession<T>(path: string, use: (session: Session, io: ModelIo) => Promise<T>, folder: string) {
  const session = await openModel(path)
  try {
    return await use(session, describeIo(session, folder))
  } finally {
    await session.release()
  }
}

async function logitsOf(session: Session, io: ModelIo, feeds: Tensors): Promise<Float32Array> {
  const outputs = await session.run(feeds, [io.logits.name])
  return readFloats(outputs[io.logits.name]!)
}

/** Logits of all tokens at once. */
const wholeLogits = (session: Session, io: ModelIo): Promise<Float32Array> =>
  logitsOf(session, io, feedsFor(io, tokens, 1, TOKENS))

/** Logits of the last token, after a prompt and one step for each token behind it. */
async function steppedLogits(session: Session, io: ModelIo): Promise<Float32Array> {
  const fetches = [io.logits.name, ...io.past.map(({ present }) => present!)]
  let past: Past | undefined
  let logits: Float32Array = new Float32Array(0)
  for (let end = PROMPT; end <= TOKENS; end++) {
    const from = past?.length ?? 0
    const outputs = await session.run(feedsFor(io, tokens.slice(from, end), 1, end - from, past), fetches)
    past = nextPast(io, outputs, end)
    logits = readFloats(outputs[io.logits.name]!)
  }
  // The last run had one token.
  return logits
}

/** Exporters and families; routers are left out, which send a token elsewhere when numbers are rounded. */
const FILES = [
  ...['models/wiki-llama/optimum-past', 'zoo/dynamo-gpt2', 'zoo/dynamo-llama-opset20', 'zoo/dynamo-llama-opset23'],
  ...[
    'zoo/genai-llama-fp32',
    'zoo/mobius-llama',
    'zoo/optimum-bloom',
    'zoo/optimum-gemma2-eager',
    'zoo/optimum-merged',
  ],
  ...['zoo/optimum-qwen3', 'zoo/ort-optimized-llama'],
]

describe('as float16 models', needsShared, () => {
  test.each(FILES)(
    '%s: logits within 1e-3 of their range; a step with the cache gives what the whole run gives',
    async name => {
      const source = modelOf(name)
      const folder = dirname(source)
      const path = join(testFolder(), 'model.onnx')
      const model = loadModel(source)
      toFloat16(model)
      const floats = [...model.graph.inputs, ...model.graph.outputs].filter(({ dtype }) => dtype?.startsWith('float'))
      expect(new Set(floats.map(({ dtype }) => dtype))).toEqual(new Set(['float16']))
      await saveModel(model, path)
      const expected = await withSession(source, wholeLogits, folder)
      await withSession(
        path,
        async (session, io) => {
          const got = await wholeLogits(session, io)
          expect(difference(got, expected)).toBeLessThan(1e-3)
          expect(difference(got, expected)).toBeGreaterThan(0)
          if (io.past.length === 0) return
          const step = await steppedLogits(session, io)
          expect(difference(step, got.slice(-step.length))).toBeLessThan(2e-3)
        },
        folder,
      )
    },
  )

  test.each(['models/wiki-llama/optimum-past', 'zoo/optimum-gemma2-eager', 'zoo/genai-llama-fp32'])(
    '%s: tokens behind padding have the logits of the float32 file, without NaN',
    async name => {
      const source = modelOf(name)
      const path = join(testFolder(), 'model.onnx')
      const model = loadModel(source)
      toFloat16(model)
      await saveModel(model, path)
      const padded = async (session: Session, io: ModelIo) => {
        const feeds = feedsFor(io, tokens, 1, TOKENS)
        // genai's files are padded on the right, optimum's on the left.
        const mask = feeds[io.attentionMask!.name]!.data as Uint8Array
        const isRight = name.includes('genai')
        mask.fill(0, ...(isRight ? [mask.length - 32, mask.length] : [0, 32]))
        const logits = await logitsOf(session, io, feeds)
        const width = logits.length / TOKENS
        return isRight ? logits.slice(0, -4 * width) : logits.slice(4 * width)
      }
      const expected = await withSession(source, padded, dirname(source))
      const got = await withSession(path, padded, dirname(source))
      expect(got.every(Number.isFinite)).toBe(true)
      expect(difference(got, expected)).toBeLessThan(1e-3)
    },
  )

  test.each([
    ['zoo/genai-llama-fp32', { lmHead: 4, embedding: 4 }],
    ['zoo/optimum-merged', {}],
    ['zoo/optimum-gpt2', {}],
    ['zoo/dynamo-llama-tied', { lmHead: 8, embedding: 8 }],
  ] as const)(
    '%s at w4a16 %o: the file is smaller, and computes what its own numbers give in float32',
    async (name, outer) => {
      const source = modelOf(name)
      const folder = testFolder()
      const make = (float16: boolean) =>
        quantizeModel({
          ...PLAIN,
          ...{ model: source, output: join(folder, `${float16}.onnx`), scheme: 'w4a16g32', lwc: false, float16 },
          ...{ samples: 1, seqLen: TOKENS, epochs: 0, ...outer },
        })
      const [half, float] = [await make(true), await make(false)]
      expect(half.notes).toContainEqual(expect.stringMatching(/^inputs and outputs that were float32 are float16: /))
      expect(half.sizeAfter).toBeLessThan(float.sizeAfter)
      const twin = join(folder, 'twin.onnx')
      await saveModel(retype(loadModel(half.output), 'float16', 'float32'), twin)
      const expected = await withSession(twin, wholeLogits, dirname(source))
      expect(difference(await withSession(half.output, wholeLogits, dirname(source)), expected)).toBeLessThan(2e-3)
    },
  )
})
