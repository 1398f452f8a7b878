/** @file Each bench is started with its smallest size, on the bundled model or on one that make-model.js writes. Builds come before (pretest). */

import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { tempDir } from './helpers/temp-dir.ts'
import { unless } from './helpers/unless.ts'

const ROOT = resolve(import.meta.dirname, '..')
const run = (...args: string[]): string => execFileSync(process.execPath, args, { cwd: ROOT, encoding: 'utf8' })

/** Benches with help, by name. The other files of the folder are parts of them. */
const benches = readdirSync(join(ROOT, 'bench')).filter(
  name => name.endsWith('.js') && readFileSync(join(ROOT, 'bench', name), 'utf8').includes('showHelp(import.meta'),
)

const folder = tempDir()
const MADE = join(folder, 'made')
const QUANTIZED = join(folder, 'quantized.onnx')
const MODEL = 'fixtures/tiny-llama/model.onnx'
const FEW = ['--samples', '2', '--seq-len', '32']
const SMALL = ['--hidden', '64', '--ffn', '160', '--heads', '2']

interface Row {
  readonly args: readonly string[]
  /** A part of what it prints. */
  readonly says: RegExp
  readonly needs?: string
  /** Words of its help where an argument is missing. */
  readonly missing?: RegExp
}

/** Smallest call of each bench. A bench without a row fails. */
const ROWS: Readonly<Record<string, Row>> = {
  'ablation.js': {
    args: ['--filter', 'w4a4 clipping only', '--epochs', '1', ...FEW],
    says: /^\| tiny-llama \| w4a4 \| clipping only \| \d+\.\d{3} \| \d+ \|$/m,
  },
  'accuracy.js': {
    args: ['--filter', 'w4a16 --group 32', '--preset', 'fast', ...FEW],
    says: /^\| tiny-llama \| `--w4a16 --group 32` \| \d+\.\d{3} \| \d+\.\d{3} \| \d+\.\d{3} \|/m,
  },
  'choose-bits.js': {
    args: [
      ...['fixtures/tiny-llama', 'fixtures/tiny-llama/calib.txt', 'fixtures/tiny-llama/eval.txt'],
      ...['--samples', '2', '--seq-len', '32', '--windows', '1', '--uniform', 'w4a16', '--sizes', '700000'],
    ],
    says: /700000/,
    missing: /MODEL, CALIB and TEXT are needed/,
  },
  'gpu.js': {
    args: [...SMALL.slice(0, 4), '--tokens', '16', '--samples', '2', '--schemes', 'w4a16g32', '--blocks', '1'],
    says: /^w4a16g32, 16 tokens: a step /m,
  },
  'integer-block.js': {
    args: ['--hidden', '64', '--rounds', '1', 'w8a8'],
    says: /^\| w8a8 \| 128 \| \d+\.\d\d ms \| \d+\.\d\d ms \| \d+\.\d\d x \|$/m,
  },
  'make-model.js': {
    args: [MADE, ...SMALL, '--kv-heads', '1', '--layers', '1', '--vocab', '64', '--samples', '2', '--seq-len', '16'],
    says: /model\.onnx: 0\.00 GB of weights in 1 files/,
    missing: /give one folder/,
  },
  'memory.js': {
    args: [MODEL, '--w4a16', '--no-lwc', '--no-let', '--rounding', 'nearest'],
    says: /3 blocks, .*\npeak anonymous memory \d+ MiB/,
    missing: /MODEL is missing/,
    ...(existsSync('/proc/self/status') ? {} : { needs: '/proc' }),
  },
  'program-costs.js': {
    args: [...SMALL, '--tokens', '16', 'w4a16g32'],
    says: /^\| w4a16g32 \| \d+ \| \d+, \d+ \|/m,
  },
  'quantized-forward.js': {
    args: [MODEL, QUANTIZED, '--rounds', '1'],
    says: /^1 tokens, 2 threads: model\.onnx .*\n {2}quantized\.onnx \d+\.\d\d ms/m,
    missing: /a float file and a quantized one are needed/,
  },
  'round-to-nearest.js': {
    args: [join(MADE, 'model.onnx'), '--rounds', '1', '--groups', '32'],
    says: /^4 bits, groups of 32, omniquant: \d+\.\d\d s/m,
    missing: /MODEL\.onnx is missing/,
    ...(existsSync('/usr/bin/time') ? {} : { needs: '/usr/bin/time' }),
  },
  'schemes.js': {
    args: [MODEL, '--schemes', 'w8a16', '--rounds', '1'],
    says: /w8a16\.onnx \d+\.\d\d ms/,
    missing: /MODEL\.onnx is missing/,
  },
  'train-step.js': {
    args: ['--hidden', '64', '--rounds', '1', '--scheme', 'w4a16g32', '--threads', '1'],
    says: /^w4a16g32 hidden 64, 64 tokens: \d+\.\d ms a step$/m,
  },
}

it('each bench has a row', () => {
  expect(Object.keys(ROWS)).toEqual(benches)
})

describe.each(Object.entries(ROWS))('%s', (name, { missing }) => {
  it('--help prints how to call it', () => {
    expect(run(`bench/${name}`, '--help')).toContain(`node bench/${name}`)
  })

  if (missing === undefined) return
  it('says what is missing', () => {
    const { stderr, status } = spawnSync(process.execPath, [`bench/${name}`], { cwd: ROOT, encoding: 'utf8' })
    expect(stderr).toMatch(missing)
    expect(stderr).toContain(`node bench/${name}`)
    expect(status).toBe(2)
  })
})

describe('at its smallest size', () => {
  beforeAll(() => {
    run('node_modules/typescript/bin/tsc', '-p', 'fixtures/generate')
    run('bench/make-model.js', ...ROWS['make-model.js']!.args)
    run('bin/omniquant.js', 'quantize', MODEL, '--w8a16', '--no-lwc', '--quiet', '-o', QUANTIZED)
  })

  for (const [name, { args, says, needs }] of Object.entries(ROWS))
    it(name, unless(needs), () => expect(run(`bench/${name}`, ...args)).toMatch(says))
})

it('integer-block.js measures a small block', () => {
  const table = run('bench/integer-block.js', '--hidden', '64', '--rounds', '1', 'w8a8', 'w4a4').trim().split('\n')
  const rows = table.slice(2).map(row => row.split('|').map(cell => cell.trim()))
  expect(rows.map(([, scheme, tokens]) => `${scheme} ${tokens}`)).toEqual(['w8a8 128', 'w4a4 128', 'w8a8 1', 'w4a4 1'])
  for (const [, , , float, quantized, ratio] of rows) {
    expect(float).toMatch(/^\d+\.\d\d ms$/)
    expect(quantized).toMatch(/^\d+\.\d\d ms$/)
    expect(ratio).toMatch(/^\d+\.\d\d x$/)
  }
})

it('gpu.js measures a small block on the CPU', () => {
  const sizes = ['--hidden', '64', '--ffn', '160', '--tokens', '16', '--samples', '3', '--schemes', 'w4a16g32']
  const report = JSON.parse(run('bench/gpu.js', '--json', ...sizes)) as {
    device: string
    peakTeraflops: number
    schemes: { scheme: string; presets: Record<string, { minutes: number; scaled: boolean }>; goals?: object }[]
  }
  expect(report.device).toBe('cpu')
  expect(report.peakTeraflops).toBeGreaterThan(0)
  const [measured] = report.schemes
  expect(measured).toMatchObject({ scheme: 'w4a16g32' })
  for (const name of ['stepMs', 'stepsPerSecond', 'shareOfPeak', 'forwardSamplesPerSecond', 'hostMiB'])
    expect(measured![name as 'scheme'], name).toBeGreaterThan(0)
  expect(Object.keys(measured!.presets)).toEqual(['fast', 'default', 'best', 'paper'])
  const { fast, paper } = measured!.presets
  expect(paper!.minutes).toBeGreaterThan(fast!.minutes)
  expect(paper!.scaled).toBe(true)
  expect(measured!.goals).toBeUndefined()
})

it('program-costs.js counts the products of a block as arithmetic does', () => {
  const [hidden, ffn, heads, tokens] = [64, 192, 2, 32]
  const sizes = ['--hidden', hidden, '--ffn', ffn, '--heads', heads, '--tokens', tokens].map(String)
  const counted = JSON.parse(run('bench/program-costs.js', ...sizes, '--json', 'w4a16g32', 'w4a16g32+rounding')) as {
    readonly flops: number
    readonly products: number
    readonly sums: number
    readonly bytes: Readonly<Record<string, number>>
    readonly passes: Readonly<Record<string, number>>
  }[]
  const [plain, rounding] = counted
  // Forward, gradient of the weight and gradient of the input, which q, k and v do not need.
  const linears = 3 * (4 * hidden * hidden + 3 * hidden * ffn) - 3 * hidden * hidden
  const attention = 3 * 2 * tokens * hidden
  // Sums of gradients over groups are products with ones.
  const sums = 4 * hidden * hidden + 3 * hidden * ffn
  expect(plain!.flops).toBe(2 * tokens * (linears + attention) + 2 * sums)
  expect(plain!.products).toBe(7 * 3 - 3 + 6 + plain!.sums)
  expect(plain!.sums).toBe(7)
  expect(rounding!.flops).toBe(plain!.flops)
  expect(rounding!.passes['weights']).toBeGreaterThan(plain!.passes['weights']!)
  // Every pass over a weight reads or writes at least one number of one byte for each of its elements.
  expect(plain!.bytes['weights']).toBeGreaterThan(plain!.passes['weights']! * hidden * hidden)
})
