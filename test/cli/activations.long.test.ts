/** @file Weights and activations on the command line: learned, saved and used again, at a rate that diverges, and without epochs. */

import { mkdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { EvaluateReport } from '../../src/quant/evaluate.ts'
import type { QuantizeReport } from '../../src/quant/terms/report.ts'
import { modelBytes } from '../helpers/model-bytes.ts'
import { runCli } from '../helpers/run-cli.ts'
import { tempDir } from '../helpers/temp-dir.ts'

const llama = resolve(import.meta.dirname, '../../fixtures/tiny-llama')
const calib = join(llama, 'calib.txt')
const text = join(llama, 'eval.txt')
const folder = tempDir()
let count = 0
const fresh = (): string => {
  const path = join(folder, String(count++))
  mkdirSync(path)
  return path
}
const parsed = <T>(stdout: string): T => JSON.parse(stdout) as T

describe('weights and activations', () => {
  const little = ['--samples', '4', '--seq-len', '32', '--epochs', '2', '--threads', '1', '--calib', calib, '--json']
  const run = async (...args: string[]) => {
    const out = fresh()
    const result = await runCli('quantize', llama, ...args, ...little, '-o', out)
    return { ...result, bytes: result.exitCode === 0 ? modelBytes(join(out, 'model.onnx')) : undefined }
  }

  test('what was learned can be saved and used again, to the same bytes', async () => {
    const params = join(fresh(), 'learned.safetensors')
    const saved = await run('--w4a4', '--save-params', params)
    expect([saved.exitCode, saved.stderr]).toEqual([0, ''])
    const replayed = await run('--w4a4', '--params', params)
    expect([replayed.exitCode, replayed.stderr]).toEqual([0, ''])
    expect(replayed.bytes!.equals(saved.bytes!)).toBe(true)
    const without = await run('--w4a4', '--params', params, '--ignore', 'o_proj')
    expect([without.exitCode, without.bytes]).toEqual([1, undefined])
    expect(without.stderr).toContain("its exceptions is not given, this run's is o_proj:float")
    const other = await run('--w6a6', '--params', params)
    expect(other.exitCode).toBe(1)
    expect(other.stderr).toContain('does not fit this run: its scheme is w4a4')
  })

  test('a learning rate of 1e3 ends with a valid model and a note', async () => {
    const { exitCode, stdout, bytes } = await run('--w4a4', '--lr', '1e3', '--evaluate', text)
    expect(exitCode).toBe(0)
    const report = parsed<QuantizeReport & { evaluation: EvaluateReport }>(stdout)
    expect(report.notes.join('\n')).toMatch(/learning (diverged|did not help)/)
    expect(report.evaluation.ratio).toBeLessThan(1.5)
    expect(bytes!.length).toBeGreaterThan(1000)
  })

  test('no epochs: transformed, not trained, and rounded', async () => {
    const { exitCode, stdout } = await run('--w8a8', '--epochs', '0')
    expect(exitCode).toBe(0)
    expect(parsed<QuantizeReport>(stdout).blocks.map(({ mappings }) => mappings.length)).toEqual([5, 5, 5])
  })
})
