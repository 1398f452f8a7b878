/** @file Reading of what systems and drivers tell about processors and graphics cards. */

import { expect, test } from 'vitest'
import { readNvidiaSmi, readVulkanInfo } from '../../src/doctor/gpus.ts'
import { examineMachine, featuresIn, int8Words } from '../../src/doctor/machine.ts'

test.each([
  ['flags\t\t: fpu avx2 avx512f avx512_vnni amx_int8', ['AVX2', 'AVX512', 'AVX512-VNNI', 'AMX-INT8'], /^fast \(AMX\)/],
  ['flags\t\t: fpu avx2 avx512f avx512_vnni', ['AVX2', 'AVX512', 'AVX512-VNNI'], /^fast \(VNNI\)/],
  ['flags\t\t: fpu avx2 avx_vnni', ['AVX2', 'AVX-VNNI'], /^fast \(VNNI\)/],
  ['flags\t\t: fpu avx avx2', ['AVX2'], /^no VNNI: slower, and .* may overflow/],
  ['Features\t: fp asimd asimddp i8mm sve', ['NEON', 'dot product', 'I8MM', 'SVE'], /^fast \(I8MM\)/],
  ['Features\t: fp asimd asimddp', ['NEON', 'dot product'], /^fast \(dot product\)/],
])('%s', (line, features, words) => {
  const found = featuresIn(`processor\t: 0\nmodel name\t: X\n${line}\nbogomips\t: 1\n`)
  expect(found).toEqual(features)
  expect(int8Words(found)).toMatch(words)
})

test('a processor of which nothing is known gets no words', () => {
  expect(featuresIn('processor : 0\n')).toEqual([])
  expect(int8Words([])).toBeUndefined()
})

test('this machine has a processor, memory and free space', () => {
  const { processor, memoryBytes, freeMemoryBytes, disks } = examineMachine()
  expect(processor.cores).toBeGreaterThan(0)
  expect(memoryBytes).toBeGreaterThan(1e8)
  expect(freeMemoryBytes).toBeGreaterThan(0)
  expect(disks.map(({ folder }) => folder)).toContain(process.cwd())
})

test('nvidia-smi: a line for each GPU; memory that it does not tell is left out', () => {
  const output = 'NVIDIA H200, 143771, 143000, 580.159.03, 9.0\nNVIDIA GB10, [N/A], [N/A], 580.95, 12.1\n\n'
  expect(readNvidiaSmi(output)).toEqual([
    {
      name: 'NVIDIA H200',
      source: 'nvidia-smi',
      memoryBytes: 143771 * 2 ** 20,
      freeMemoryBytes: 143000 * 2 ** 20,
      driver: '580.159.03',
      computeCapability: '9.0',
    },
    { name: 'NVIDIA GB10', source: 'nvidia-smi', driver: '580.95', computeCapability: '12.1' },
  ])
  expect(readNvidiaSmi('NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.\n')).toEqual([])
})

test('vulkaninfo: software is called so', () => {
  const output = `Devices:
========
GPU0:
	apiVersion         = 1.4.305
	deviceType         = PHYSICAL_DEVICE_TYPE_CPU
	deviceName         = llvmpipe (LLVM 15.0.6, 256 bits)
	driverInfo         = Mesa 25.0.7-2~bpo12+1 (LLVM 15.0.6)
GPU1:
	deviceType         = PHYSICAL_DEVICE_TYPE_DISCRETE_GPU
	deviceName         = AMD Radeon RX 7900 XTX
	driverInfo         = Mesa 25.0.7
`
  expect(readVulkanInfo(output)).toEqual([
    {
      name: 'llvmpipe (LLVM 15.0.6, 256 bits) (software)',
      source: 'vulkaninfo',
      driver: 'Mesa 25.0.7-2~bpo12+1 (LLVM 15.0.6)',
    },
    { name: 'AMD Radeon RX 7900 XTX', source: 'vulkaninfo', driver: 'Mesa 25.0.7' },
  ])
  expect(readVulkanInfo('')).toEqual([])
})
