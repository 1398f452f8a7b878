/** @file The package as its users call it: the built files, in a process of their own and in this one. */

import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import type { ProgressEvent } from '../src/index.ts'
import { tempDir } from './helpers/temp-dir.ts'
import type * as Library from '../src/index.ts'

const ROOT = resolve(import.meta.dirname, '..')
const built = resolve(ROOT, 'dist/index.js')
if (!existsSync(built)) throw new Error('dist/ is missing: run `npm run build` first')
const { evaluate, inspect, quantize, QuantError } = (await import(built)) as typeof Library

const model = join(ROOT, 'fixtures/tiny-llama')
const calib = join(model, 'calib.txt')
const folder = tempDir()
const LITTLE = {
  ...{ model, scheme: 'w4a16', group: 32, calib, samples: 4, seqLen: 32, epochs: 2, threads: 1 },
  // The same bytes are asked for: those of the CPU.
  device: 'cpu',
} as const

test('inspect, quantize with progress, evaluate; inline gives the same bytes', async () => {
  expect((await inspect({ model })).blocks).toHaveLength(3)
  const events: ProgressEvent[] = []
  const output = join(folder, 'a.onnx')
  const report = await quantize({ ...LITTLE, output }, { onProgress: event => events.push(event) })
  expect(report.blocks.map(({ kept }) => kept)).not.toContain(undefined)
  expect(events.filter(({ type }) => type === 'blockDone')).toHaveLength(3)
  expect(events[0]).toEqual({ type: 'device', device: report.device })
  expect(report.blocks.map(({ device }) => device)).toEqual(report.blocks.map(() => report.device.name))
  const inline = await quantize({ ...LITTLE, output: join(folder, 'b.onnx') }, { engine: 'inline' })
  expect(readFileSync(inline.output).equals(readFileSync(output))).toBe(true)
  const { perplexity, windows } = await evaluate({
    model: output,
    text: join(model, 'eval.txt'),
    tokenizer: model,
    seqLen: 32,
    windows: 2,
  })
  expect(windows).toBe(2)
  expect(perplexity).toBeLessThan(10)
})

test('an abort keeps what is finished, and the next call goes on, with defaults typed out too', async () => {
  const place = join(folder, 'aborted')
  mkdirSync(place)
  const output = join(place, 'q.onnx')
  const controller = new AbortController()
  const onProgress = (event: ProgressEvent) => {
    if (event.type === 'blockDone') controller.abort()
  }
  const running = quantize({ ...LITTLE, epochs: 40, output }, { onProgress, signal: controller.signal })
  await expect(running).rejects.toMatchObject({
    code: 'E_INTERRUPTED',
    hint: expect.stringContaining('`fresh: true`') as string,
  })
  expect(readdirSync(place)).toEqual(['.q.onnx.omniquant'])
  const defaults = { alpha: 0.5, optimizer: 'adamw', format: 'integer', lwc: true, seed: 0 } as const
  const report = await quantize({ ...LITTLE, ...defaults, epochs: 40, output })
  expect(report.notes[0]).toMatch(/^went on from an earlier run/)
})

test.each([
  [{ model, scheme: 'w4a16', samples: 0 }, 'samples', '`samples` takes a whole number from 1 up, not "0"'],
  [{ model, scheme: 'w4a16', sample: 4 }, 'sample', 'there is no option "sample"'],
  [{ scheme: 'w4a16' }, 'model', 'the option `model` is missing'],
  [{ model, scheme: 'w1a16' }, 'scheme', '1-bit weights cannot be made'],
])('%o is refused', async (options, option, message) => {
  const error: unknown = await quantize(options as { model: string }).catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(QuantError)
  expect(error).toMatchObject({ option, message })
})

test.each(['process', 'inline'] as const)('a device that does not work is one error (%s)', async engine => {
  const output = join(folder, `${engine}.onnx`)
  // No machine has so many.
  await expect(quantize({ ...LITTLE, device: 'cuda:99', output }, { engine })).rejects.toMatchObject({
    code: 'E_DEVICE',
    option: 'device',
    message: expect.stringMatching(/^cuda:99 cannot be used here: /) as string,
  })
  expect(existsSync(output)).toBe(false)
})
