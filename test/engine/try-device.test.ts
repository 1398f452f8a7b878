/** @file Trials of devices: whatever the process does that tries one, there is an answer. */

import { resolve } from 'node:path'
import { expect, test } from 'vitest'
import { missingProviderFile } from '../../src/kernels/runtime-folder.ts'
import { type Trying, tryDevice } from '../../src/engine/try-device.ts'
import { unless } from '../helpers/unless.ts'

const ODD = resolve(import.meta.dirname, '../helpers/odd-probe.js')
const REAL = resolve(import.meta.dirname, '../../dist/engine/probe-process.js')

const trial = (way: string, trying: Partial<Trying> = {}) =>
  tryDevice('webgpu', { program: ODD, env: { ...process.env, ODD: way }, ...trying })

test.each(['works', 'works, and crashes at its end'])('%s', async way => {
  expect(await trial(way)).toEqual({ device: 'webgpu', seconds: expect.any(Number) as number })
})

test.each([
  ['crashes', /^the process that tried it crashed \(SIGSEGV\)$/],
  ['leaves', /^the process that tried it crashed \(exit code 3\)$/],
  ['gives wrong numbers', /wrong numbers: last\[0\] is 0, not 24/],
  ['says why on stderr', /no Vulkan loader: libvulkan\.so\.1/],
])('%s', async (way, problem) => {
  const { failure } = await trial(way)
  expect(failure?.problem).toMatch(problem)
  expect(failure?.remedy).not.toEqual([])
})

test('hangs, and is ended after the limit', async () => {
  const { failure } = await trial('hangs', { limitMs: 300 })
  expect(failure?.problem).toBe('a small program did not end there within 0.3 seconds')
})

test('a trial ends with the signal', async () => {
  const controller = new AbortController()
  setTimeout(() => controller.abort(new Error('enough')), 200)
  await expect(trial('hangs', { signal: controller.signal })).rejects.toThrow('enough')
})

test('the CPU really runs the program in another process', async () => {
  expect(await tryDevice('cpu', { program: REAL, env: process.env })).toEqual({
    device: 'cpu',
    seconds: expect.any(Number) as number,
  })
})

test(
  'without the provider of CUDA no process is started',
  unless(missingProviderFile() === undefined ? 'the provider of CUDA is here' : undefined),
  async () => {
    const { failure, seconds } = await tryDevice('cuda:1', { program: '/nowhere.js', env: process.env })
    expect(seconds).toBe(0)
    expect(failure?.problem).toMatch(/CUDA/)
  },
)
