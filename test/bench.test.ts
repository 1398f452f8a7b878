/** @file Benches start: what they import from dist/ is there, and the block bench runs at its smallest size. Builds come before (pretest). */

import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, it } from 'vitest'

const ROOT = resolve(import.meta.dirname, '..')
const run = (...args: string[]): string => execFileSync(process.execPath, args, { cwd: ROOT, encoding: 'utf8' })

/** Benches with help, by name. The other files of the folder are parts of them. */
const benches = readdirSync(join(ROOT, 'bench')).filter(
  name => name.endsWith('.js') && readFileSync(join(ROOT, 'bench', name), 'utf8').includes('showHelp(import.meta'),
)

/** The writer of random models is built by a command of its own (bench/README.md). */
const missing = existsSync(join(ROOT, 'out/generate')) ? [] : ['make-model.js']

it('there are benches', () => {
  expect(benches.length).toBeGreaterThanOrEqual(8)
})

it.each(benches.filter(name => !missing.includes(name)))('%s --help prints how to call it', name => {
  expect(run(`bench/${name}`, '--help')).toContain(`node bench/${name}`)
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
