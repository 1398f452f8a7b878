/** @file Figures of an evaluation against a computation of their own, from the logits that onnxruntime gives for one window at a time. */

import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { CONFIG } from '../../fixtures/generate/config.ts'
import { feedsFor } from '../../fixtures/generate/perplexity.ts'
import { writeRandomModel } from '../../fixtures/generate/random-model.ts'
import { loadTokenizer } from '../../src/calibration/tokenizer.ts'
import { openModel } from '../../src/kernels/session.ts'
import { type Compared, evaluateModel } from '../../src/quant/evaluate.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import { tempDir } from '../helpers/temp-dir.ts'

const LLAMA = resolve(import.meta.dirname, '../../fixtures/tiny-llama')
const text = join(LLAMA, 'eval.txt')
const folder = tempDir()
const output = join(folder, 'w3', 'model.onnx')
const LENGTH = 48
const WINDOWS = 9

beforeAll(async () => {
  mkdirSync(join(folder, 'w3'))
  await quantizeModel({ model: LLAMA, output, scheme: 'w3a16', lwc: false, accuracyLevel: 0 })
})

/** Rows of log probabilities [position][token] of a model on a window, in float64. */
async function logProbabilities(path: string, windows: readonly (readonly number[])[]): Promise<number[][][]> {
  const session = await openModel(path, { threads: 1 })
  const result: number[][][] = []
  for (const window of windows) {
    const { logits } = await session.run(feedsFor([window]), ['logits'])
    const [, positions, vocabulary] = logits!.dims as [number, number, number]
    const bytes = logits!.data as Uint8Array
    const all = Array.from(new Float32Array(bytes.buffer, bytes.byteOffset, positions * vocabulary))
    result.push(
      window.map((_, t) => {
        const row = all.slice(t * vocabulary, (t + 1) * vocabulary)
        const largest = Math.max(...row)
        const logSum = largest + Math.log(row.reduce((sum, logit) => sum + Math.exp(logit - largest), 0))
        return row.map(logit => logit - logSum)
      }),
    )
  }
  await session.release()
  return result
}

const sumOf = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0)

/** Mean of all values, and its standard error over groups. */
function meanAndError(groups: readonly (readonly number[])[]): { mean: number; error: number } {
  const count = groups.flat().length
  const mean = sumOf(groups.flat()) / count
  const squares = groups.map(group => (sumOf(group) - mean * group.length) ** 2)
  const k = groups.length
  return { mean, error: Math.sqrt((k / (k - 1)) * sumOf(squares)) / count }
}

/** Position `share` of the way through sorted values. */
function quantileOf(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  const at = share * (sorted.length - 1)
  const below = Math.floor(at)
  const next = sorted[Math.min(below + 1, sorted.length - 1)]!
  return sorted[below]! + (at - below) * (next - sorted[below]!)
}

const top = (row: readonly number[]): number => row.indexOf(Math.max(...row))

/** The figures of a model, computed from definitions. */
async function independent(stride: number): Promise<{ float: Compared; model: Compared; tokens: number }> {
  const ids = loadTokenizer(LLAMA).encode(readFileSync(text, 'utf8'))
  const windows = Array.from({ length: WINDOWS }, (_, i) => ids.slice(i * stride, i * stride + LENGTH))
  const p = await logProbabilities(join(LLAMA, 'model.onnx'), windows)
  const q = await logProbabilities(output, windows)
  /** Positions in each window whose next token is new. */
  const positions = windows.map((window, i) =>
    Array.from(window.keys()).filter(t => t + 1 < LENGTH && (i === 0 || t + 1 >= LENGTH - stride)),
  )
  const over = (value: (i: number, t: number) => number) => positions.map((each, i) => each.map(t => value(i, t)))
  const figures = (rows: number[][][]) => {
    const { mean, error } = meanAndError(over((i, t) => -rows[i]![t]![windows[i]![t + 1]!]!))
    return {
      meanLoss: mean,
      meanLossError: error,
      perplexity: Math.exp(mean),
      perplexityError: Math.exp(mean) * error,
    }
  }
  const kl = over((i, t) => sumOf(p[i]![t]!.map((logP, token) => Math.exp(logP) * (logP - q[i]![t]![token]!))))
  const same = meanAndError(over((i, t) => (top(p[i]![t]!) === top(q[i]![t]!) ? 1 : 0)))
  const klMean = meanAndError(kl)
  const [float, model] = [figures(p), figures(q)]
  return {
    float: float as Compared,
    model: {
      ...model,
      ratio: model.perplexity / float.perplexity,
      divergence: {
        klMean: klMean.mean,
        klMeanError: klMean.error,
        klMedian: quantileOf(kl.flat(), 0.5),
        kl99: quantileOf(kl.flat(), 0.99),
        sameTop: same.mean,
        sameTopError: same.error,
      },
    } as Compared,
    tokens: positions.flat().length,
  }
}

/** Every number of `expected`, to 1e-6. */
function expectFigures(measured: object, expected: object): void {
  for (const [key, value] of Object.entries(expected) as [keyof typeof measured, unknown][]) {
    if (typeof value === 'object') expectFigures(measured[key], value!)
    else expect(Math.abs((measured[key] as number) - (value as number)), key).toBeLessThan(1e-6)
  }
}

describe.each([undefined, 16, 47])('stride %s', stride => {
  test('all figures equal an independent computation to 1e-6', async () => {
    const expected = await independent(stride ?? LENGTH)
    const options = { text, seqLen: LENGTH, stride, windows: WINDOWS, tokenizer: LLAMA }
    const report = await evaluateModel({ threads: 1, model: output, against: LLAMA, ...options })
    expect(report).toMatchObject({ windows: WINDOWS, stride: stride ?? LENGTH, tokens: expected.tokens })
    expectFigures(report, expected.model)
    expectFigures(report.against!, expected.float)
    expect(report.divergence!.klMean).toBeGreaterThan(1e-3)
    // Alone, too.
    const { meanLoss, meanLossError, perplexity, perplexityError } = expected.model
    const alone = { meanLoss, meanLossError, perplexity, perplexityError }
    expectFigures(await evaluateModel({ threads: 1, model: output, ...options }), alone)
  })
})

test('several models: figures of each, sizes, bits of each weight of the float model', async () => {
  const report = await evaluateModel({
    ...{ threads: 1, model: LLAMA, others: [output], against: LLAMA, text, seqLen: LENGTH, windows: 3 },
  })
  expect(report).toMatchObject({ model: join(LLAMA, 'model.onnx'), ratio: 1 })
  expect(report.divergence).toMatchObject({ klMean: 0, kl99: 0, sameTop: 1 })
  const [other] = report.others!
  expect(other).toMatchObject({ model: output })
  expect(report.others).toHaveLength(1)
  const weights = (8 * report.sizeBytes) / report.bitsPerWeight!
  expect(weights).toBeGreaterThan(64 * 320 * 2 + 3 * (64 * 64 * 2 + 64 * 32 * 2 + 64 * 160 * 3))
  expect(other!.bitsPerWeight).toBeCloseTo((8 * other!.sizeBytes) / weights, 9)
  const alone = await evaluateModel({ threads: 1, model: output, text, seqLen: LENGTH, windows: 3 })
  expect(alone.bitsPerWeight).toBeUndefined()
  expect(alone.perplexity).toBeCloseTo(other!.perplexity, 6)
})

test('one window has no standard error', async () => {
  const report = await evaluateModel({ threads: 1, model: LLAMA, against: output, text, seqLen: LENGTH, windows: 1 })
  expect([report.perplexityError, report.divergence!.sameTopError]).toEqual([NaN, NaN])
})

describe('what is refused', () => {
  /** The fixture in a folder of its own, to change something beside it. */
  function copied(name: string): string {
    const path = join(folder, name)
    cpSync(LLAMA, path, { recursive: true })
    return path
  }

  test('a stride longer than the window', async () => {
    await expect(evaluateModel({ threads: 1, model: LLAMA, text, seqLen: 32, stride: 33 })).rejects.toMatchObject({
      code: 'E_USAGE',
      option: 'stride',
    })
  })

  test('tokenizers that differ, also where the tokens come from a file; models without one use the other’s', async () => {
    const other = copied('other-tokens')
    const file = join(other, 'tokenizer.json')
    const json = JSON.parse(readFileSync(file, 'utf8')) as { model: { vocab: Record<string, number> } }
    const [[a, first], [b, second]] = Object.entries(json.model.vocab).slice(-2) as [[string, number], [string, number]]
    Object.assign(json.model.vocab, { [a]: second, [b]: first })
    writeFileSync(file, JSON.stringify(json))
    const ids = join(folder, 'ids.jsonl')
    writeFileSync(ids, JSON.stringify(Array.from({ length: 64 }, (_, i) => 3 + i)))
    for (const [options, named] of [
      [{ model: other, against: LLAMA, text: ids }, LLAMA],
      [{ model: LLAMA, others: [other], text: ids }, other],
      [{ model: LLAMA, against: output, tokenizer: other, text }, LLAMA],
    ] as const) {
      await expect(evaluateModel({ threads: 1, ...options, seqLen: 16 })).rejects.toMatchObject({
        code: 'E_VOCABULARY',
        message: expect.stringContaining(join(named, 'tokenizer.json')) as string,
      })
    }
    rmSync(file)
    const report = await evaluateModel({ threads: 1, model: other, against: LLAMA, text, seqLen: 16, windows: 2 })
    expect(report.ratio).toBe(1)
    await expect(evaluateModel({ threads: 1, model: other, text, seqLen: 16 })).rejects.toMatchObject({
      code: 'E_TOKENIZER',
    })
    await evaluateModel({ threads: 1, model: other, text, seqLen: 16, windows: 2, tokenizer: LLAMA })
  })

  test('logits of different widths, named with both files', async () => {
    const config = { ...CONFIG, vocabSize: 192 }
    const { path } = writeRandomModel(join(folder, 'narrow'), config, {
      ...{ seed: 1, dataFiles: 1, calibration: { samples: 1, seqLen: 16 } },
    })
    for (const options of [
      { model: LLAMA, against: path },
      { model: path, others: [LLAMA] },
    ])
      await expect(evaluateModel({ threads: 1, ...options, text, seqLen: 16 })).rejects.toMatchObject({
        code: 'E_VOCABULARY',
        message: expect.stringMatching(/differ: \S+ gives logits for (192|320) tokens, \S+ for (192|320)$/) as string,
      })
  })
})
