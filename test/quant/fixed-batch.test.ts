/** @file Files that fix the number of sequences in a run, or their length: calibrated, quantized and evaluated as their twins that do not. */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { generateTokens } from '../../src/calibration/generate.ts'
import { describeIo } from '../../src/decoder/model-io.ts'
import type { Dim } from '../../src/graph/ir.ts'
import { saveModel } from '../../src/graph/onnx-file/save.ts'
import { int64Tensor } from '../../src/graph/tensor.ts'
import { openModel } from '../../src/kernels/session.ts'
import { evaluateModel } from '../../src/quant/evaluate.ts'
import { inspectModel } from '../../src/quant/inspect.ts'
import { logitsOf, relativeError } from '../helpers/compare-logits.ts'
import { quantizeToy } from '../helpers/quantize-toy.ts'
import { testFolder } from '../helpers/test-folder.ts'
import { TOY, toyDecoder, type toyLayer, toyTokens } from '../helpers/toy-decoder.ts'

const BATCH = 3
const LENGTH = 12
const WINDOWS = 7

/** Attention and MLP, with the batch in constants that shapes are made of, as tracing writes it where there is one. */
const tracedLayer =
  (batch: number | undefined): typeof toyLayer =>
  (toy, x, scope) => {
    const { hidden, heads } = TOY
    const constant = (name: string, numbers: number[]) =>
      toy.constant(`${scope}.${name}`, int64Tensor([numbers.length], numbers))
    const split = constant('split', [batch ?? 0, -1, heads, hidden / heads])
    const merge = constant('merge', [batch ?? 0, -1, hidden])
    const normed = toy.norm(`${scope}/input_norm`, x)
    const parts = ['q_proj', 'k_proj', 'v_proj'].map(part => {
      const projected = toy.linear(`${scope}/${part}`, normed, hidden, hidden)
      const inHeads = toy.op(`${scope}/${part}/split`, 'Reshape', [projected, split])
      return toy.op(`${scope}/${part}/merge`, 'Reshape', [inHeads, merge])
    })
    const attributes = { num_heads: heads, unidirectional: 1 }
    const mixed = toy.op(`${scope}/attn`, 'com.microsoft.MultiHeadAttention', parts, attributes)
    const middle = toy.op(scope, 'Add', [x, toy.linear(`${scope}/o_proj`, mixed, hidden, hidden)])
    return toy.op(scope, 'Add', [middle, toy.mlp(`${scope}/mlp`, toy.norm(`${scope}/post_norm`, middle))])
  }

/** A decoder whose runs are [batch, sequence]: numbers are fixed. */
async function decoder(batch: Dim, sequence: Dim): Promise<string> {
  const toy = toyDecoder({ layers: 1, layer: tracedLayer(typeof batch === 'number' ? batch : undefined) })
  toy.graph.inputs[0]!.shape = [batch, sequence]
  toy.graph.outputs[0]!.shape = [batch, sequence, TOY.vocab]
  const path = join(testFolder(), 'model.onnx')
  await saveModel(toy.model, path)
  return path
}

const free = () => decoder('batch', 'sequence')

function text(): string {
  const path = join(testFolder(), 'text.jsonl')
  writeFileSync(path, toyTokens(WINDOWS, LENGTH))
  return path
}

async function written(path: string) {
  const session = await openModel(path)
  try {
    return await generateTokens(session, describeIo(session), { samples: 4, seqLen: LENGTH, seed: 3 })
  } finally {
    await session.release()
  }
}

describe.each<[string, () => Promise<string>]>([
  ['a fixed batch', () => decoder(BATCH, 'sequence')],
  ['a fixed batch and length', () => decoder(BATCH, LENGTH)],
  ['a fixed batch of one', () => decoder(1, 'sequence')],
])('%s', (_, fixed) => {
  test('the perplexity is that of the twin, the last run filled up', async () => {
    const options = { text: text(), seqLen: LENGTH }
    const [expected, got] = [
      await evaluateModel({ ...options, model: await free() }),
      await evaluateModel({ ...options, model: await fixed() }),
    ]
    expect([got.windows, got.tokens]).toEqual([WINDOWS, WINDOWS * (LENGTH - 1)])
    expect(Math.abs(got.meanLoss / expected.meanLoss - 1)).toBeLessThan(1e-9)
  })

  test('it writes the text its twin writes', async () => {
    expect(await written(await fixed())).toEqual(await written(await free()))
  })

  test('rounded, it says what the rounded twin says', async () => {
    const [model, twin] = [await fixed(), await free()]
    const [report, twinReport] = [await quantizeToy(model, 'w8a16'), await quantizeToy(twin, 'w8a16')]
    const batch = describeIo(await modelOf(model)).batch!
    const [before, after] = [await logitsOf(model, { batch }), await logitsOf(report.output, { batch })]
    expect(relativeError(before, after)).toBeGreaterThan(0)
    expect(relativeError(before, after)).toBeLessThan(0.02)
    expect(relativeError(await logitsOf(twinReport.output, { batch }), after)).toBeLessThan(1e-6)
  })

  test('learned from text and from its own, it is quantized like any other', async () => {
    const model = await fixed()
    const batch = describeIo(await modelOf(model)).batch!
    for (const calib of [{}, { calib: undefined }]) {
      const report = await quantizeToy(model, 'w4a4', { ...calib, lwc: true, epochs: 1 })
      const [block] = report.blocks
      expect(block!.mappings).toHaveLength(5)
      expect(block!.learnedLoss).toBeGreaterThan(0)
      expect(report.notes.filter(note => note.includes('a step learns from 3 samples'))).toHaveLength(batch > 1 ? 1 : 0)
      const error = relativeError(await logitsOf(model, { batch }), await logitsOf(report.output, { batch }))
      expect(error).toBeLessThan(0.6)
    }
  })
})

async function modelOf(path: string) {
  const session = await openModel(path)
  await session.release()
  return session
}

describe('a fixed length', () => {
  test('is taken unless another one is asked for, which is refused', async () => {
    const model = await decoder(BATCH, LENGTH)
    expect((await evaluateModel({ model, text: text() })).seqLen).toBe(LENGTH)
    const report = await inspectModel({ model })
    expect([report.problem, report.blocks.length]).toEqual([undefined, 1])
    for (const seqLen of [LENGTH - 2, LENGTH + 4])
      await expect(evaluateModel({ model, text: text(), seqLen })).rejects.toMatchObject({
        code: 'E_SEQ_LEN',
        message: `the file takes sequences of ${LENGTH} tokens and no others, but ${seqLen} are wanted`,
        hint: `Use \`seqLen: ${LENGTH}\`.`,
      })
  })
})
