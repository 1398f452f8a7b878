/** @file Choosing bits from the command line: the table of a dry run, a limit that is missed, sizes as they are typed. */

import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { bytes } from '../../src/cli/flag-values.ts'
import { choiceLines } from '../../src/cli/format-choice.ts'
import type { QuantizeReport } from '../../src/quant/terms/report.ts'
import type { ChoiceReport, Sensitivities } from '../../src/quant/terms/sensitivity.ts'
import { runCli } from '../helpers/run-cli.ts'
import { testFolder } from '../helpers/test-folder.ts'

const LLAMA = resolve(import.meta.dirname, '../../fixtures/tiny-llama')

const FLAGS = [
  ...['quantize', LLAMA, '--calib', join(LLAMA, 'calib.txt'), '--samples', '4', '--seq-len', '32', '--no-lwc'],
  ...['--lm-head', 'float', '--embedding', 'float', '--threads', '1'],
]

test.each([
  ['900MB', 900e6],
  ['1.5GB', 1.5e9],
  ['700 MiB', 700 * 2 ** 20],
  ['12kb', 12_000],
  ['123456', 123_456],
  ['1.0000000009GB', 1_000_000_000],
  ['9XB', '9XB'],
  ['MB', 'MB'],
  ['-1MB', '-1MB'],
])('%s is read as %s', (text, value) => expect(bytes(text)).toBe(value))

const CHOICE: ChoiceReport = {
  maxSize: 1_000_000,
  plannedBytes: 990_000,
  predictedKl: 0.01234,
  chosen: [1, 0],
  overrides: { a: 'w4g32', b: 'w2' },
  sensitivities: {
    format: 'omniquant sensitivities 1',
    tokens: 2048,
    linears: [
      {
        ...{ name: 'a', inFeatures: 64, outFeatures: 8 },
        candidates: [
          { bits: 2, group: 32, symmetric: false, sizeBytes: 200, error: 0.12, kl: 0.034 },
          { bits: 4, group: 32, symmetric: false, sizeBytes: 300, error: 0.006, kl: 0.0017 },
        ],
      },
      {
        ...{ name: 'b', inFeatures: 64, outFeatures: 8 },
        candidates: [{ bits: 2, group: 64, symmetric: true, sizeBytes: 150, error: 0.2, kl: 0.01 }],
      },
    ],
  },
}

test('the choice in words', () => {
  const report = { choice: CHOICE, files: [] } as unknown as QuantizeReport
  expect(choiceLines(report)).toBe(
    [
      'candidates: size, error of the output, divergence; * is chosen (2048 tokens)',
      'a   w2g32 200 B, 1.2e-1, 3.4e-2  *w4g32 300 B, 6.0e-3, 1.7e-3',
      'b  *w2sym 150 B, 2.0e-1, 1.0e-2',
      '',
      'bits        1 x w4g32, 1 x w2sym',
      'size        at most 1.0 MB, planned 990 kB',
      'divergence  predicted 0.0123',
    ].join('\n'),
  )
  const measured = { ...CHOICE, maxSize: undefined, maxKl: 0.02, measuredKl: 0.0111, measuredTokens: 512 }
  expect(
    choiceLines({ choice: measured, files: ['q.onnx'] } as unknown as QuantizeReport)
      .split('\n')
      .at(-1),
  ).toBe('divergence  at most 0.02, predicted 0.0123, measured 0.0111 on 512 tokens')
  expect(choiceLines({ files: ['q.onnx'] } as unknown as QuantizeReport)).toBe('')
})

test('a dry run prints the table and writes it; a divergence above --max-kl is a failure, and the file stays', async () => {
  const folder = testFolder()
  const [out, table] = [join(folder, 'q.onnx'), join(folder, 's.json')]
  const dry = await runCli(...FLAGS, '--max-size', '400kB', '--dry-run', '--sensitivity', table, '-o', out)
  expect(dry).toMatchObject({ exitCode: 0, stderr: '' })
  expect(dry.stdout).toMatch(/^layers\.2\.mlp\.down_proj .* \*w\dg\d+ /m)
  expect(dry.stdout).toContain('size        at most 400 kB, planned ')
  expect(dry.stdout.trimEnd().endsWith('dry run: no model was written')).toBe(true)
  // Nothing is left, so that another limit can be tried.
  expect(readdirSync(folder)).toEqual(['s.json'])
  // Sensitivities that promise too much.
  const { linears, ...rest } = JSON.parse(readFileSync(table, 'utf8')) as Sensitivities
  const hopeful = linears.map(linear => ({
    ...linear,
    candidates: linear.candidates.map(candidate => ({ ...candidate, kl: candidate.kl / 1e6 })),
  }))
  writeFileSync(table, JSON.stringify({ ...rest, linears: hopeful }))
  const missed = await runCli(...FLAGS, '--max-kl', '0.0001', '--sensitivity', table, '-o', out, '--json')
  expect(missed.exitCode).toBe(1)
  expect(missed.stderr).toMatch(/^error: the logits of .*q\.onnx diverge by 0?\.?\d+.* above the limit of 0\.0001\n$/)
  const document = JSON.parse(missed.stdout) as QuantizeReport & { error: { code: string } }
  expect(document.error.code).toBe('E_LIMIT')
  expect(document.choice!.measuredKl).toBeGreaterThan(1e-4)
  expect(existsSync(out)).toBe(true)
})

test.each<[string[], string]>([
  [
    ['--w4a16', '--max-size', '1MB'],
    '--max-size chooses the bits of weights and leaves activations float: it excludes --scheme',
  ],
  [['--max-size', '9XB'], '--max-size takes a whole number from 1 up, not "9XB"'],
  [['--w4a16', '--dry-run'], '--dry-run is for runs that choose bits'],
  [
    ['--max-kl', '0.1', '--dry-run', '--evaluate', 'x.txt'],
    '--dry-run writes no model, so there is none for --evaluate',
  ],
])('%j is refused', async (flags, message) => {
  const { exitCode, stderr } = await runCli('quantize', LLAMA, ...flags)
  expect(exitCode).toBe(2)
  expect(stderr).toContain(`error: ${message}`)
})
