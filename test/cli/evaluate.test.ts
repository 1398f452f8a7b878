/** @file `omniquant evaluate` as a process: the table, the document, limits, and models that cannot be compared. */

import { readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { CONFIG } from '../../fixtures/generate/config.ts'
import { writeRandomModel } from '../../fixtures/generate/random-model.ts'
import type { EvaluateResult } from '../../src/engine/messages.ts'
import { evaluateModel, type MeasuredSpeed } from '../../src/quant/evaluate.ts'
import { runCli } from '../helpers/run-cli.ts'
import { tempDir } from '../helpers/temp-dir.ts'

const LLAMA = resolve(import.meta.dirname, '../../fixtures/tiny-llama')
const text = join(LLAMA, 'eval.txt')
const folder = tempDir()
const [w2, w4] = [join(folder, 'w2'), join(folder, 'w4')]
const WINDOWS = ['--seq-len', '32', '--windows', '6', '--threads', '1', '--device', 'cpu']

beforeAll(async () => {
  for (const [scheme, out] of [
    ['--w2a16', w2],
    ['--w4a16', w4],
  ] as const)
    expect((await runCli('quantize', LLAMA, scheme, '--no-lwc', '--quiet', '-o', out)).exitCode).toBe(0)
})

test('several models in one table, and in one document', async () => {
  const line = ['evaluate', w4, w2, text, '--against', LLAMA, '--stride', '16', ...WINDOWS]
  const { stdout, stderr, exitCode } = await runCli(...line)
  expect([stderr, exitCode]).toEqual(['', 0])
  const [head, first, second, float, ...rest] = stdout.split('\n')
  expect(head!.trim().split(/ {2,}/)).toEqual([
    ...[
      'size',
      'bits/weight',
      'perplexity',
      'ratio',
      'KL mean',
      'median',
      '99 %',
      'same top',
      'prefill',
      'decode',
      'memory',
    ],
  ])
  const figures = String.raw`\S+ kB +\d+\.\d\d +\d+\.\d{3} ±\d+\.\d{3}`
  const speeds = String.raw`\S+ ?k?/s +\S+ ?k?/s +\d+ MB`
  const distances = String.raw`x\d+\.\d{4} +\S+ +\S+ +\S+ +\d+\.\d\d ±\d+\.\d\d %`
  expect(first).toMatch(new RegExp(`^w4 +${figures} +${distances} +${speeds}$`))
  expect(second).toMatch(new RegExp(`^w2 +${figures} +${distances} +${speeds}$`))
  expect(float).toMatch(new RegExp(`^tiny-llama +${figures} +${speeds}$`))
  expect(rest).toEqual([
    '',
    `6 windows of 32 tokens, each 16 tokens after the last, of ${text}`,
    'compared with tiny-llama: ratio, KL, same top',
    '',
  ])
})

test('one document with all of it; every limit that a model passes is named, exit code 1', async () => {
  const line = ['evaluate', w4, w2, '--text', text, '--against', LLAMA, '--stride', '16', ...WINDOWS]
  const limits = ['--max-ratio', '1.5', '--max-kl', '0.2', '--min-agreement', '0.999']
  const { stdout, stderr, exitCode } = await runCli(...line, ...limits, '--json')
  expect(exitCode).toBe(1)
  const json = JSON.parse(stdout) as EvaluateResult & { error: object }
  expect(json).toMatchObject({ model: join(w4, 'model.onnx'), stride: 16, windows: 6, tokens: 31 + 5 * 16 })
  expect(json.others!.map(({ model }) => model)).toEqual([join(w2, 'model.onnx')])
  expect(json.others![0]!.divergence!.klMean).toBeGreaterThan(json.divergence!.klMean)
  for (const { speed } of [json, ...json.others!, json.against!]) {
    const { peakMemoryBytes, ...others } = speed as Required<MeasuredSpeed>
    expect(others).toMatchObject({ cached: true, tokens: 32 })
    expect(Math.min(others.prefillTokensPerSecond, others.decodeTokensPerSecond)).toBeGreaterThan(0)
    // Node with onnxruntime takes some 100 MB.
    expect(peakMemoryBytes).toBeGreaterThan(50e6)
    expect(peakMemoryBytes).toBeLessThan(1e9)
  }
  expect(json.error).toMatchObject({ code: 'E_LIMIT' })
  expect(stderr).toMatch(
    /^error: the share of same likeliest tokens of \S+w4\S+ is 0\.\d{4}, below the limit of 0\.999; /,
  )
  for (const words of ['ratio of perplexities', 'mean KL divergence', 'share of same likeliest tokens'])
    expect(stderr).toContain(`the ${words} of ${join(w2, 'model.onnx')} is `)
})

test('models of different vocabularies are refused', async () => {
  const { path } = writeRandomModel(
    join(folder, 'other'),
    { ...CONFIG, vocabSize: 192 },
    {
      ...{ seed: 1, dataFiles: 1, calibration: { samples: 1, seqLen: 16 } },
    },
  )
  const { stdout, stderr, exitCode } = await runCli('evaluate', LLAMA, text, '--against', path, ...WINDOWS)
  expect([stdout, exitCode]).toEqual(['', 1])
  expect(stderr).toMatch(
    /^error: the vocabularies differ: \S+tiny-llama\S+ gives logits for 320 tokens, \S+ for 192\nhint: /,
  )
})

test('--tokenizer reads the text of a model that has none', async () => {
  const bare = join(folder, 'bare.onnx')
  writeFileSync(bare, readFileSync(join(LLAMA, 'model.onnx')))
  const without = await runCli('evaluate', bare, text, ...WINDOWS)
  expect([without.exitCode, without.stdout]).toEqual([1, ''])
  expect(without.stderr).toMatch(/^error: no tokenizer\.json in /)
  const given = await runCli('evaluate', bare, text, '--tokenizer', LLAMA, ...WINDOWS, '--json')
  const { perplexity } = JSON.parse(given.stdout) as EvaluateResult
  expect(perplexity).toBe((await evaluateModel({ model: LLAMA, text, seqLen: 32, windows: 6, threads: 1 })).perplexity)
})
