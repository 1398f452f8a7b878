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
  expect(Object.keys(measured!.presets)).toEqual(['fast', 'default', 'paper'])
  const { fast, paper } = measured!.presets
  expect(paper!.minutes).toBeGreaterThan(fast!.minutes)
  expect(paper!.scaled).toBe(true)
  expect(measured!.goals).toBeUndefined()
})
