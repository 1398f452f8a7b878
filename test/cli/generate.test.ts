/** @file `omniquant generate` as a process: the text on stdout, the document, the comparison, a prompt on stdin, Ctrl-C. */

import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { loadTokenizer } from '../../src/calibration/tokenizer.ts'
import { formatComparison } from '../../src/cli/format-generated.ts'
import type { GenerateResult } from '../../src/engine/messages.ts'
import type { GenerateReport } from '../../src/quant/terms/generate-options.ts'
import { runCli, startCli } from '../helpers/run-cli.ts'
import { tempDir } from '../helpers/temp-dir.ts'

const LLAMA = resolve(import.meta.dirname, '../../fixtures/tiny-llama')
const PROMPT = 'Once upon a time'
const FEW = ['--max-tokens', '16', '--threads', '1', '--device', 'cpu']
const generate = (...more: string[]) => runCli('generate', LLAMA, PROMPT, ...FEW, ...more)

test('the text goes to stdout and nothing else does; --json is one document; stdin gives the same', async () => {
  const json = await generate('--json')
  const report = JSON.parse(json.stdout) as GenerateResult
  expect(report).toMatchObject({ prompt: PROMPT, stopped: 'maxTokens', cached: true, device: { name: 'cpu' } })
  expect(report.tokens).toHaveLength(16)
  expect(report.text).toBe(loadTokenizer(LLAMA).decode(report.tokens))
  expect(report.tokensPerSecond).toBeGreaterThan(0)
  const { stdout, stderr, exitCode } = await generate()
  expect([stdout, stderr, exitCode]).toEqual([`${report.text}\n`, '', 0])
  const piped = await startCli(['generate', LLAMA, '-', ...FEW], { stdin: { text: `${PROMPT}\n` } }).ended
  expect([piped.stdout, piped.stderr, piped.exitCode]).toEqual([stdout, '', 0])
})

test('--compare shows both texts and where they part', async () => {
  const out = join(tempDir(), 'w2')
  expect((await runCli('quantize', LLAMA, '--w2a16', '--no-lwc', '--quiet', '-o', out)).exitCode).toBe(0)
  const report = JSON.parse((await generate('--compare', out, '--json')).stdout) as GenerateResult
  const { stdout, exitCode } = await generate('--compare', out)
  expect(exitCode).toBe(0)
  const [title, text, empty, otherTitle, otherText] = stdout.split('\n')
  expect(title).toMatch(/^tiny-llama: 16 tokens \(as many as asked for\), \d+\.\d tokens\/s$/)
  expect([text, empty, otherText]).toEqual([report.text, '', report.compare!.text])
  expect(otherTitle).toMatch(/^w2: 16 tokens /)
  const { index, texts } = report.parting!
  expect(stdout).toMatch(/\n\nthe same for \d+ tokens; then tiny-llama writes ".*", w2 writes ".*"\n$/)
  expect(stdout).toContain(`the same for ${index} tokens; then tiny-llama writes ${JSON.stringify(texts[0])}, `)
})

test('Ctrl-C ends it with 130, while it works and while it waits for stdin', async () => {
  for (const prompt of [PROMPT, '-']) {
    const line = ['generate', LLAMA, prompt, '--max-tokens', '200', '--device', 'cpu']
    const { child, ended } = startCli(line, { stdin: 'open' })
    if (prompt === '-') setTimeout(() => child.kill('SIGINT'), 1500)
    // The line about the device comes before the process that works has begun.
    else child.stderr!.once('data', () => child.kill('SIGINT'))
    expect(await ended).toMatchObject({
      exitCode: 130,
      stderr: expect.stringContaining('error: interrupted') as string,
    })
  }
})

test('without a tokenizer, or with a prompt longer than the model: one error', async () => {
  const long = await runCli('generate', LLAMA, PROMPT.repeat(200), ...FEW)
  expect([long.stdout, long.exitCode]).toEqual(['', 1])
  expect(long.stderr).toMatch(/^error: the prompt has \d+ tokens, more than the 256 positions of \S+\nhint: /)
  const missing = await runCli('generate', LLAMA, PROMPT, '--tokenizer', tempDir())
  expect([missing.stdout, missing.exitCode]).toEqual(['', 1])
  expect(missing.stderr).toMatch(/^error: no tokenizer\.json in /)
})

const written = { stopped: 'maxTokens', tokensPerSecond: 12.34, firstTokenMs: 1, cached: true } as const
const report: GenerateReport = {
  ...written,
  model: '/m/float/model.onnx',
  text: ' there was a cat that sat on the mat and slept.\nIt was old.',
  tokens: [1, 2, 3],
  prompt: 'Once upon a time',
  promptTokens: [7],
  compare: {
    ...written,
    model: '/m/w2/model.onnx',
    text: ' there was a \u001b[2Jcat.',
    tokens: [1, 2],
    stopped: 'end',
    tokensPerSecond: NaN,
    cached: false,
  },
  parting: { index: 2, tokens: [3, null], texts: [' cat', null] },
}

test('two columns on a wide terminal', () => {
  expect(`\n${formatComparison(report, 72)}\n`).toMatchInlineSnapshot(`
    "
    float: 3 tokens (as many as asked    w2: 2 tokens (end of text) without
    for), 12.3 tokens/s                  a cache

     there was a cat that sat on the      there was a \\u001b[2Jcat.
    mat and slept.
    It was old.

    the same for 2 tokens; then float writes " cat", w2 ends
    "
  `)
})

test('one after the other on a narrow one, and where there is none', () => {
  expect(formatComparison(report, 40)).toBe(formatComparison(report, undefined))
  expect(`\n${formatComparison(report, undefined)}\n`).toMatchInlineSnapshot(`
    "
    float: 3 tokens (as many as asked for), 12.3 tokens/s
     there was a cat that sat on the mat and slept.
    It was old.

    w2: 2 tokens (end of text) without a cache
     there was a \\u001b[2Jcat.

    the same for 2 tokens; then float writes " cat", w2 ends
    "
  `)
})

test('texts that are the same', () => {
  const same = { ...report, parting: undefined }
  expect(formatComparison(same, undefined)).toMatch(/\n\nthe same 3 tokens$/)
})
