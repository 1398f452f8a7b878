/** @file Devices on the command line: tried before a run, named when they fail in it, and left for the CPU in the next. */

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { QuantizeResult } from '../../src/engine/messages.ts'
import { CUDA_PROVIDER_FILES, missingProviderFile } from '../../src/kernels/runtime-folder.ts'
import { copyPackage } from '../helpers/copied-package.ts'
import { runCli, startCli } from '../helpers/run-cli.ts'
import { tempDir } from '../helpers/temp-dir.ts'
import { unless } from '../helpers/unless.ts'

const LLAMA = resolve(import.meta.dirname, '../../fixtures/tiny-llama')
const PRETEND = resolve(import.meta.dirname, '../helpers/pretend-cuda.js')
const folder = tempDir()
let count = 0
const fresh = (): string => {
  const path = join(folder, String(count++))
  mkdirSync(path)
  return path
}
const QUICK = ['--w4a16', '--calib', join(LLAMA, 'calib.txt'), '--samples', '4', '--seq-len', '32', '--epochs', '1']
const quantize = (out: string, ...more: string[]) => ['quantize', LLAMA, ...QUICK, '-o', join(out, 'q.onnx'), ...more]

const here = missingProviderFile() === undefined ? 'the provider of CUDA is here' : undefined

describe('without CUDA’s provider', unless(here), () => {
  test('--device cuda is one error before anything is written', async () => {
    const out = fresh()
    const { stdout, stderr, device, exitCode } = await runCli(...quantize(out, '--device', 'cuda'))
    expect([stdout, device, exitCode]).toEqual(['', undefined, 1])
    expect(stderr).toMatch(
      /^error: cuda:0 cannot be used here: .*libonnxruntime_providers_cuda\.so.*\nhint: .*doctor --install-cuda.*\n$/,
    )
    expect(readdirSync(out)).toEqual([])
    const { stdout: json, exitCode: code } = await runCli(...quantize(out, '--device', 'cuda:1', '--json'))
    expect([(JSON.parse(json) as { error: { code: string } }).error.code, code]).toEqual(['E_DEVICE', 1])
  })

  test('auto takes the CPU, and says why in a log and in the report', async () => {
    const text = join(LLAMA, 'eval.txt')
    const { stdout, stderr, device, exitCode } = await runCli('evaluate', LLAMA, text, '--windows', '2', '--json')
    expect([stderr, exitCode]).toEqual(['', 0])
    expect(device).toMatch(/^device: cpu \(no CUDA: .*libonnxruntime_providers_cuda\.so/)
    expect(JSON.parse(stdout)).toMatchObject({
      device: { name: 'cpu', why: expect.stringMatching(/^no CUDA/) as string },
    })
    const quiet = await runCli('evaluate', LLAMA, text, '--windows', '2', '--quiet', '--device', 'cpu')
    expect(quiet).toEqual({ stdout: '', stderr: '', device: undefined, exitCode: 0 })
  })
})

test.each(['foo', 'cuda:', 'cuda:x', 'gpu', ''])('--device "%s" is wrong usage', async name => {
  const { stderr, exitCode } = await runCli(...quantize(fresh(), '--device', name))
  expect([stderr, exitCode]).toEqual([expect.stringMatching(/^error: --device .*cuda/), 2])
})

const isLinux = process.platform === 'linux' && process.arch === 'x64'

describe('with files that are no provider', unless(isLinux ? undefined : 'for Linux on x64'), () => {
  const copy = copyPackage(join(folder, 'package'))
  for (const name of CUDA_PROVIDER_FILES) writeFileSync(join(copy.runtime, name), 'no library')

  test('onnxruntime’s words about them are found and explained; auto takes the CPU', async () => {
    const out = fresh()
    const { stderr, exitCode } = await startCli(quantize(out, '--device', 'cuda'), { folder: copy.folder }).ended
    expect([stderr, exitCode]).toEqual([
      expect.stringMatching(
        /^error: cuda:0 cannot be used here: libonnxruntime_providers_shared\.so is damaged\nhint: /,
      ),
      1,
    ])
    expect(readdirSync(out)).toEqual([])
    const auto = await startCli(quantize(out, '--no-lwc', '--no-let'), { folder: copy.folder }).ended
    expect(auto.exitCode).toBe(0)
    expect(auto.device).toBe('device: cpu (no CUDA: libonnxruntime_providers_shared.so is damaged)')
  })

  /** A CUDA device that computes on the CPU until a file is there. */
  const pretended = (until: string, failure = '') => ({
    folder: copy.folder,
    env: { NODE_OPTIONS: `--import ${PRETEND}`, PRETEND_FAILS_AFTER: until, PRETEND_FAILURE: failure },
  })

  test('a device that fails, or takes the process with it, is named, and --device cpu goes on', async () => {
    const whole = fresh()
    expect((await runCli(...quantize(whole, '--device', 'cpu'))).exitCode).toBe(0)
    for (const [failure, error] of [
      ['', /^error: cuda:0: CUDA reports error 719: unspecified launch failure: onnxruntime could not run MatMul "m"/],
      ['crash', /^error: the process that works crashed \(SIGABRT\) on cuda:0, while: block 2\/3/],
    ] as const) {
      const out = fresh()
      const record = join(out, '.q.onnx.omniquant/block-000.record')
      const failed = await startCli(quantize(out, '--device', 'cuda'), pretended(record, failure)).ended
      expect(failed.device).toMatch(/^device: cuda:0 \(a small program ran there with the right numbers in \d/)
      expect(failed.stderr).toMatch(error)
      expect(failed.stderr).toMatch(/\nhint: .*--device cpu goes on without cuda:0; finished blocks are kept/)
      expect(failed.exitCode).toBe(1)
      const resumed = await runCli(...quantize(out, '--device', 'cpu', '--json'))
      expect([resumed.device, resumed.exitCode]).toEqual(['device: cpu (as asked for)', 0])
      const report = JSON.parse(resumed.stdout) as QuantizeResult
      expect(report.blocks.map(({ device }) => device)).toEqual(['cuda:0', 'cpu', 'cpu'])
      expect(report.notes.slice(0, 2)).toEqual([
        'went on from an earlier run, which had finished 1 of 3 blocks',
        'learned on several devices, whose numbers differ in the last bits: block 0 on cuda:0; blocks 1, 2 on cpu',
      ])
      expect(readFileSync(join(out, 'q.onnx')).equals(readFileSync(join(whole, 'q.onnx')))).toBe(true)
    }
  })
})
