/** @file The examples run as they stand, on the bundled model. Builds come before (pretest). */

import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import type * as Library from '../src/index.ts'
import { tempDir } from './helpers/temp-dir.ts'

const ROOT = resolve(import.meta.dirname, '..')
const MODEL = join(ROOT, 'fixtures/tiny-llama')
const folder = tempDir()

interface Ran {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs an example to its end. @param interruptAt text on stdout at which it gets SIGINT. */
function run(name: string, args: readonly string[] = [], interruptAt?: string): Promise<Ran> {
  const child = spawn(process.execPath, [join(ROOT, 'examples', name), ...args], { cwd: folder })
  let [stdout, stderr] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
    if (interruptAt !== undefined && stdout.includes(interruptAt)) child.kill('SIGINT')
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  return new Promise((done, fail) => {
    child.on('error', fail)
    child.on('close', code => done({ code, stdout, stderr }))
  })
}

test('quantize.js stops at an interrupt and goes on from there', async () => {
  const stopped = await run('quantize.js', [MODEL, 'q.onnx'], 'block 1 of 3')
  expect(stopped).toMatchObject({ code: 130, stderr: expect.stringMatching(/^E_INTERRUPTED: /) as string })
  expect(existsSync(join(folder, 'q.onnx'))).toBe(false)
  const { code, stdout } = await run('quantize.js', [MODEL, 'q.onnx'])
  expect(code).toBe(0)
  expect(stdout).toMatch(
    /^3 blocks, 21 linears\nblock 1 of 3 is done\nblock 2 of 3 is done\nblock 3 of 3 is done\n\d+ bytes -> \d+ bytes: .*q\.onnx\n$/,
  )
  expect(existsSync(join(folder, 'q.onnx'))).toBe(true)
  const limited = await run('evaluate.js', [join(folder, 'q.onnx'), MODEL, join(MODEL, 'eval.txt'), '1e-9'])
  expect(limited).toMatchObject({ code: 1, stderr: 'a mean KL divergence above 1e-9\n' })
  expect(limited.stdout).toMatch(
    /^perplexity \d\.\d+, \d\.\d+ times .*\nKL divergence 0\.\d+, same likeliest token \d+/,
  )
})

test('generate.js writes what `omniquant generate` writes', async () => {
  const { generate } = (await import(join(ROOT, 'dist/index.js'))) as typeof Library
  const { text } = await generate({ model: MODEL, prompt: 'The ', maxTokens: 24, device: 'cpu' })
  const { code, stdout, stderr } = await run('generate.js', [MODEL, 'The ', '24'])
  expect([code, stderr]).toEqual([0, ''])
  expect(text.length).toBeGreaterThan(10)
  expect(stdout.trim()).toBe(`The ${text}`.trim())
})
