/**
 * @file An oracle for numbers: damaged models that are accepted, and sound ones with weights of unusual size, are quantized at w8a16
 * and run beside their source in onnxruntime. Both give the same logits within 3 % of their range, or NaN in the same places.
 *
 *     OMNIQUANT_FUZZ_SEED=7 OMNIQUANT_FUZZ_NUMBERS=1000 npx vitest run test/fuzz/numbers.long.test.ts     other models, and more of them
 */

import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { tempDir } from '../helpers/temp-dir.ts'
import type { Compared } from './compare-numbers.ts'

const SEED = Number(process.env['OMNIQUANT_FUZZ_SEED'] ?? 1)
const COUNT = Number(process.env['OMNIQUANT_FUZZ_NUMBERS'] ?? 60)
const MAX_ERROR = 0.03

const folder = tempDir()

const read = (name: string) => (existsSync(join(folder, name)) ? readFileSync(join(folder, name), 'utf8') : '')

const compared = () =>
  read('compared')
    .split('\n')
    .filter(line => line !== '')
    .map(line => JSON.parse(line) as Compared)

/** Compares models from `first` on in a process. @returns the number at which it died; undefined when it reached its end. */
async function runProcess(first: number): Promise<{ number: number; phase: string; said: string } | undefined> {
  const done = compared().filter(({ what }) => what === 'compared').length
  const args = [folder, SEED, first, COUNT - done].map(String)
  const child = spawn(
    process.execPath,
    ['--import', './test/fuzz/typescript.js', 'test/fuzz/compare-numbers.ts', ...args],
    {
      cwd: resolve(import.meta.dirname, '../..'),
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  )
  let said = ''
  child.stderr.on('data', (chunk: Buffer) => (said = (said + chunk.toString()).slice(-2000)))
  const status = await new Promise<string>(ended => child.on('close', (code, signal) => ended(String(signal ?? code))))
  if (status === '0') return undefined
  const [number, phase] = read('at').split(' ') as [string, string]
  return { number: Number(number), phase, said: `${status}: ${said}` }
}

test(
  'what is accepted computes what its source computes',
  async () => {
    const problems: string[] = []
    for (let died = await runProcess(0); died; died = await runProcess(died.number + 1)) {
      // A source that ends the process of onnxruntime tells nothing about us.
      if (died.phase !== 'source') problems.push(`model ${died.number}: died ${died.phase}: ${died.said}`)
    }
    const all = compared()
    for (const { number, kind, what, error, detail } of all) {
      if (what === 'output') problems.push(`model ${number} (${kind}): the source runs, the output does not: ${detail}`)
      if (error !== undefined && !(error <= MAX_ERROR))
        problems.push(`model ${number} (${kind}): off by ${error} of the range`)
    }
    expect(problems.map(problem => `seed ${SEED} ${problem}`)).toEqual([])
    const errors = all.flatMap(({ error }) => error ?? [])
    expect(errors.length).toBe(COUNT)
    // A comparison of a file with itself would find nothing.
    expect(errors.filter(error => error > 0).length).toBeGreaterThan(COUNT / 2)
  },
  1_800_000 + 30_000 * COUNT,
)
