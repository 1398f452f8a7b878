/** @file `omniquant doctor`: one document, one page, and exit code 1 where onnxruntime itself does not load. */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { formatDoctor } from '../../src/cli/format-doctor.ts'
import type { DoctorReport } from '../../src/doctor/examine.ts'
import { copyPackage } from '../helpers/copied-package.ts'
import { runCli, startCli } from '../helpers/run-cli.ts'
import { tempDir } from '../helpers/temp-dir.ts'
import { unless } from '../helpers/unless.ts'

const folder = tempDir()

test('--json is one document with everything that was found', async () => {
  const { stdout, stderr, exitCode } = await runCli('doctor', '--json')
  expect([stderr, exitCode]).toEqual(['', 0])
  const report = JSON.parse(stdout) as DoctorReport
  expect(report.devices.map(({ device }) => device)).toEqual(['cpu', 'cuda:0', 'webgpu'])
  expect(report.devices[0]).toEqual({ device: 'cpu', seconds: expect.any(Number) as number })
  for (const { failure } of report.devices)
    if (failure) expect([failure.problem, failure.remedy.length > 0]).toEqual([expect.any(String), true])
  expect(report).toMatchObject({
    node: process.versions.node,
    onnxruntime: { version: '1.30.0' },
    auto: { name: report.devices[1]!.failure ? 'cpu' : 'cuda:0' },
    processor: { cores: expect.any(Number) as number },
  })
})

test('a library that does not load is a failure, and libraries beside the provider are found', async () => {
  const copy = copyPackage(join(folder, 'package'))
  writeFileSync(join(copy.runtime, 'onnxruntime_binding.node'), 'no library')
  const { stdout, stderr, exitCode } = await startCli(['doctor'], { folder: copy.folder }).ended
  expect(exitCode).toBe(1)
  expect(stderr).toMatch(/^error: onnxruntime does not work here: .*onnxruntime_binding\.node/)
  expect(stdout).toMatch(/^cpu +\S/m)
})

test('--into is for --install-cuda only', async () => {
  expect(await runCli('doctor', '--into', folder)).toMatchObject({
    stderr: 'error: --into is the folder for --install-cuda\nhint: Give --install-cuda too.\n',
    exitCode: 2,
  })
})

test(
  '--install-cuda without a way to the index is one error, and nothing is installed',
  unless(process.platform === 'linux' && process.arch === 'x64' ? undefined : 'for Linux on x64'),
  async () => {
    const copy = copyPackage(join(folder, 'other'))
    const into = join(folder, 'cuda')
    const { stdout, stderr, exitCode } = await startCli(['doctor', '--install-cuda', '--into', into, '--json'], {
      folder: copy.folder,
      env: { PIP_INDEX_URL: 'http://127.0.0.1:9/simple' },
    }).ended
    expect((JSON.parse(stdout) as { error: { code: string } }).error.code).toBe('E_DOWNLOAD')
    expect(stderr).toMatch(/^fetching .*\nerror: http:\/\/127\.0\.0\.1:9\/simple\/onnxruntime-gpu\/ cannot be reached/)
    expect(exitCode).toBe(1)
  },
)

test('the page names what is missing with its remedies, and what was installed with its undoing', () => {
  const report: DoctorReport = {
    omniquant: '0.1.0',
    node: '24.1.0',
    system: 'linux x64',
    onnxruntime: { version: '1.30.0', folder: '/x' },
    devices: [
      { device: 'cpu', seconds: 0.2 },
      {
        device: 'cuda:0',
        seconds: 1.5,
        failure: { problem: 'there is no driver', remedy: ['Install one.', 'Reboot.'] },
      },
    ],
    auto: { name: 'cpu', why: 'no CUDA: there is no driver' },
    gpus: [{ name: 'NVIDIA H200', source: 'nvidia-smi', memoryBytes: 150e9, driver: '580.1' }],
    processor: { model: 'CPU', cores: 4, features: ['AVX2'], int8: 'slow' },
    memoryBytes: 32e9,
    freeMemoryBytes: 16e9,
    disks: [{ folder: '/tmp', freeBytes: 5e9 }],
    installed: {
      folder: '/data/cuda',
      fetched: ['a', 'b'],
      kept: ['c'],
      downloadedBytes: 1.1e9,
      files: [{ name: 'lib.so', bytes: 1.5e9 }],
      links: ['/x/lib.so'],
      undo: ['rm /x/lib.so', 'rm -r /data/cuda'],
    },
  }
  expect(formatDoctor(report)).toBe(`installed CUDA
  fetched a, b (1.1 GB)
  there already: c
  1 files, 1.5 GB, in /data/cuda
  link /x/lib.so
  undo: rm /x/lib.so
  undo: rm -r /data/cuda

omniquant      0.1.0
node           24.1.0 on linux x64
onnxruntime    1.30.0, /x
processor      CPU, 4 cores
               AVX2
int8 products  slow
memory         32 GB, 16 GB free
disk           5.0 GB free for /tmp
GPU            NVIDIA H200: 150 GB, driver 580.1, by nvidia-smi

cpu     works (0.2 s)
cuda:0  there is no driver
          - Install one.
          - Reboot.

--device auto takes cpu (no CUDA: there is no driver)`)
})
