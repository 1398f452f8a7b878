/** @file Environment of the processes that work: folders of CUDA's libraries, and settings that are read at their start. */

import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { cudaFolders, engineEnvironment } from '../../src/engine/environment.ts'
import { tempDir } from '../helpers/temp-dir.ts'

const folder = tempDir()
const file = (path: string): string => {
  const full = join(folder, path)
  mkdirSync(dirname(full), { recursive: true })
  writeFileSync(full, '')
  return dirname(full)
}

const own = file('own/libcudart.so.13')
const [toolkit, dnn] = [file('pip/nvidia/cu13/lib/libcublas.so.13'), file('pip/nvidia/cudnn/lib/libcudnn.so.9')]
const other = file('pip/nvidia/nccl/lib/libnccl.so.2')

test('OMNIQUANT_CUDA_LIBS names folders with libraries, or with pip’s packages', () => {
  const named = [own, join(folder, 'pip'), join(folder, 'nowhere'), ''].join(':')
  // A provider beside onnxruntime's library, where there is one, brings folders of its own: after these.
  expect(cudaFolders({ OMNIQUANT_CUDA_LIBS: named }).slice(0, 3)).toEqual([own, toolkit, dnn])
  expect(cudaFolders({ OMNIQUANT_CUDA_LIBS: other })).not.toContain(other)
})

test('CUDA’s folders come before the user’s, and only for CUDA', () => {
  const env = { OMNIQUANT_CUDA_LIBS: own, LD_LIBRARY_PATH: '/mine' }
  expect(engineEnvironment('cuda:1', {}, env)['LD_LIBRARY_PATH']).toMatch(new RegExp(`^${own}:.*/mine$|^${own}:/mine$`))
  expect(engineEnvironment('cuda:1', {}, { OMNIQUANT_CUDA_LIBS: own })['LD_LIBRARY_PATH']).not.toMatch(/:$/)
  for (const device of ['cpu', 'webgpu'] as const)
    expect(engineEnvironment(device, {}, env)['LD_LIBRARY_PATH']).toBe('/mine')
  expect(engineEnvironment('cpu', { devices: ['cpu', 'cuda'] }, env)['LD_LIBRARY_PATH']).toContain(own)
})

test('products in float32 switch TF32 off on CUDA; the user’s own variables stay', () => {
  const off = engineEnvironment('cuda:0', { matmul: 'float32' }, {})
  expect(off['NVIDIA_TF32_OVERRIDE']).toBe('0')
  expect(engineEnvironment('cuda:0', { matmul: 'tf32' }, {})['NVIDIA_TF32_OVERRIDE']).toBeUndefined()
  expect(engineEnvironment('cpu', { matmul: 'float32' }, {})['NVIDIA_TF32_OVERRIDE']).toBeUndefined()
  expect(engineEnvironment('cuda:0', {}, { NVIDIA_TF32_OVERRIDE: '0' })['NVIDIA_TF32_OVERRIDE']).toBe('0')
  expect(engineEnvironment('cpu', {}, { A: 'b' })).toMatchObject({ A: 'b', MALLOC_MMAP_THRESHOLD_: '1048576' })
})
