/** @file Words of onnxruntime 1.30 about devices that do not work, as they were printed here, and what a user is told. */

import { describe, expect, test } from 'vitest'
import type { Device } from '../../src/kernels/device.ts'
import { explainDevice, knownProblem, USE_CPU } from '../../src/kernels/device-errors.ts'

const THROWN = 'OrtSessionOptionsAppendExecutionProvider_Cuda: Failed to load shared library\n'
const ADAPTER =
  '/onnxruntime_src/onnxruntime/core/providers/webgpu/webgpu_context.cc:136 onnxruntime::webgpu::WebGpuContext::Initialize(const ' +
  'onnxruntime::webgpu::WebGpuContextConfig&)::<lambda()> adapter_result.status == wgpu::RequestAdapterStatus::Success was false. ' +
  'Failed to get a WebGPU adapter: No supported adapters\n\n'

/** The line on stderr about a library that does not load. */
const loading = (file: string, why: string): string =>
  '\x1b[1;31m2026-11-21 20:33:03.401611225 [E:onnxruntime:onnxruntime-node, provider_bridge_ort.cc:2146 Create] ' +
  '/onnxruntime_src/onnxruntime/core/session/provider_bridge_ort.cc:1988 onnxruntime::Provider& onnxruntime::ProviderLibrary::Get() ' +
  `[ONNXRuntimeError] : 1 : FAIL : Failed to load library /x/bin/napi-v6/linux/x64/${file} with error: ${why}\n\x1b[m`

const absent = (file: string): string => `${file}: cannot open shared object file: No such file or directory`

const CUDA_FILE = 'libonnxruntime_providers_cuda.so'
const SHARED_FILE = 'libonnxruntime_providers_shared.so'

interface Case {
  readonly name: string
  readonly device: Device
  readonly said: string
  readonly problem: RegExp
  readonly missing?: string
  readonly remedy: RegExp
}

const CASES: readonly Case[] = [
  {
    name: '1. no provider files',
    device: 'cuda:0',
    said: THROWN + loading(SHARED_FILE, absent(`/x/bin/napi-v6/linux/x64/${SHARED_FILE}`)),
    problem: /installed without its CUDA provider: libonnxruntime_providers_shared\.so is not beside/,
    missing: SHARED_FILE,
    remedy: /doctor --install-cuda/,
  },
  {
    name: '2. no CUDA libraries',
    device: 'cuda:0',
    said: THROWN + loading(CUDA_FILE, absent('libcublasLt.so.13')),
    problem: /library of CUDA 13 .*: libcublasLt\.so\.13 is not found/,
    missing: 'libcublasLt.so.13',
    remedy: /OMNIQUANT_CUDA_LIBS/,
  },
  {
    name: '3. libraries, but no driver',
    device: 'cuda:0',
    said: THROWN + loading(CUDA_FILE, absent('libcuda.so.1')),
    problem: /no NVIDIA driver: libcuda\.so\.1/,
    missing: 'libcuda.so.1',
    remedy: /--gpus all.*driver 580/s,
  },
  {
    name: '4. a driver that is too old',
    device: 'cuda:0',
    said: 'CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; GPU=-1 ; hostname=h ; file=x.cc ; line=1 ; expr=cudaSetDevice(info_.device_id); ',
    problem: /driver is too old for CUDA 13/,
    remedy: /driver 580/,
  },
  {
    name: '5. a driver that finds no GPU',
    device: 'cuda:0',
    said: 'CUDA failure 100: no CUDA-capable device is detected ; GPU=-1 ; hostname=h ; file=x.cc ; line=1 ; expr=cudaSetDevice(info_.device_id); ',
    problem: /finds no GPU/,
    remedy: /nvidia-smi/,
  },
  {
    name: '6. no cuDNN, which is found out in a run',
    device: 'cuda:0',
    said: "Non-zero status code returned while running ReduceMax node. Name:'max' Status Message: cuDNN is unavailable for CUDA Execution Provider: dlopen failed for libcudnn.so",
    problem: /cuDNN is not on the library path/,
    remedy: /nvidia-cudnn-cu13/,
  },
  {
    name: 'a number that no GPU has',
    device: 'cuda:3',
    said: 'CUDA failure 101: invalid device ordinal ; GPU=0 ; hostname=h ; file=x.cc ; line=1 ; expr=cudaSetDevice(info_.device_id); ',
    problem: /no GPU of this number/,
    remedy: /CUDA_VISIBLE_DEVICES/,
  },
  {
    name: 'a GPU that the provider has no code for',
    device: 'cuda:0',
    said: 'CUDA failure 209: no kernel image is available for execution on the device ; GPU=0',
    problem: /no code for this GPU/,
    remedy: /9\.0/,
  },
  {
    name: 'a GPU whose memory is taken',
    device: 'cuda:0',
    said: 'bfc_arena.cc:376 AllocateRawInternal Failed to allocate memory for requested buffer of size 180355072',
    problem: /too little free memory/,
    remedy: /nvidia-smi/,
  },
  {
    name: 'another error of CUDA',
    device: 'cuda:0',
    said: 'CUDA failure 719: unspecified launch failure ; GPU=0 ; hostname=h',
    problem: /CUDA reports error 719: unspecified launch failure$/,
    remedy: /on the CPU/,
  },
  {
    name: 'a provider file that was cut short',
    device: 'cuda:0',
    said: THROWN + loading(SHARED_FILE, `/x/bin/napi-v6/linux/x64/${SHARED_FILE}: file too short`),
    problem: /libonnxruntime_providers_shared\.so is damaged/,
    remedy: /install-cuda/,
  },
  {
    name: 'no Vulkan loader',
    device: 'webgpu',
    said: `${ADAPTER}Warning: Couldn't load Vulkan: ${absent('libvulkan.so.1')}\n    at operator() (BackendVk.cpp:368)\n`,
    problem: /no Vulkan loader: libvulkan\.so\.1/,
    missing: 'libvulkan.so.1',
    remedy: /apt install libvulkan1/,
  },
  {
    name: 'a Vulkan loader without a driver',
    device: 'webgpu',
    said: `${ADAPTER}Warning: vkCreateInstance: Found no drivers!\nWarning: vkCreateInstance failed with VK_ERROR_INCOMPATIBLE_DRIVER\n`,
    problem: /no driver offers a GPU/,
    remedy: /mesa-vulkan-drivers/,
  },
  {
    name: 'a program with too many buffers',
    device: 'webgpu',
    said: 'Too many storage buffers in shader. Current: 13, Max is 12',
    problem: /more buffers than this GPU binds/,
    remedy: /shorter sequence/,
  },
  {
    name: 'wrong numbers',
    device: 'webgpu',
    said: 'wrong numbers: last[0] is 0, not 24',
    problem: /gave wrong numbers: last\[0\] is 0, not 24/,
    remedy: /driver/,
  },
]

describe('a user is told what is missing and what to do', () => {
  test.each(CASES)('$name', ({ device, said, problem, missing, remedy }) => {
    const found = explainDevice(device, said)
    expect(found.problem).toMatch(problem)
    expect(found.missing).toBe(missing)
    expect(found.remedy.join('\n')).toMatch(remedy)
    expect(found.problem).not.toContain('\n')
    // They follow each other in a hint.
    for (const step of found.remedy) expect(step).toMatch(/\.$/)
  })
})

test('words that no row knows are shown as they are, their first line, without colours', () => {
  const { problem, remedy } = explainDevice('cuda:0', '\x1b[1;31msomething new\x1b[m\nand more')
  expect(problem).toBe('something new')
  expect(remedy).toContain(USE_CPU)
  expect(explainDevice('cpu', 'no library').remedy.join(' ')).toMatch(/npm rebuild onnxruntime-node/)
})

test('words about one device mean nothing for another', () => {
  expect(knownProblem('webgpu', 'CUDA failure 35: x')).toBeUndefined()
  expect(knownProblem('cuda:0', 'Too many storage buffers in shader')).toBeUndefined()
  expect(knownProblem('cpu', 'CUDA failure 35: x')).toBeUndefined()
})
