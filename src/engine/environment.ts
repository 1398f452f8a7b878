/** @file Environment of the processes that work: what must be set before they start. */

import { existsSync, readdirSync, realpathSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { type Device, type DeviceChoice, deviceOf, kindOf } from '../kernels/device.ts'
import { CUDA_PROVIDER_FILES, runtimeFolder } from '../kernels/runtime-folder.ts'
import type { Task } from './messages.ts'

/**
 * Settings for glibc, which otherwise keeps large pieces of memory that were given back: memory would grow by some MB with every block.
 * From 1 MiB up they go back to the system.
 */
const ALLOCATION = { MALLOC_MMAP_THRESHOLD_: String(2 ** 20) }

/** Names of the libraries that the CUDA provider looks for. */
const CUDA_LIBRARY = /^lib(cudart|cublas|cublasLt|curand|cudnn)\w*\.so\./

/** Names in a folder; none where it cannot be read. */
function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

/** The folder, and those that pip's packages of NVIDIA have below it: nvidia/cu13/lib, nvidia/cudnn/lib. */
const withPip = (folder: string): string[] => [
  folder,
  ...namesIn(join(folder, 'nvidia')).map(name => join(folder, 'nvidia', name, 'lib')),
]

/** Folders that the provider file may have its libraries in: its own, and site-packages when it is pip's onnxruntime/capi. */
function besideProvider(): string[] {
  const file = join(runtimeFolder(), CUDA_PROVIDER_FILES[1])
  if (!existsSync(file)) return []
  const folder = dirname(realpathSync(file))
  return [folder, dirname(dirname(folder))]
}

/**
 * Folders with libraries of CUDA: those that OMNIQUANT_CUDA_LIBS names, and the one that the provider file beside onnxruntime leads to;
 * below each of them those of pip's packages.
 */
export function cudaFolders(env: NodeJS.ProcessEnv = process.env): string[] {
  const named = (env['OMNIQUANT_CUDA_LIBS'] ?? '').split(delimiter).filter(folder => folder !== '')
  const folders = [...named, ...besideProvider()].flatMap(withPip)
  return [...new Set(folders)].filter(folder => namesIn(folder).some(name => CUDA_LIBRARY.test(name)))
}

/** Options of a task that its process must be started with. */
export interface StartOptions {
  readonly matmul?: string | undefined
  /** All devices of the run, where there are several: their processes inherit the environment. */
  readonly devices?: readonly DeviceChoice[] | undefined
}

/** Those of a task's options. */
export const startOptions = (task: Task): StartOptions => (task.name === 'quantize' ? task.options : {})

/** The environment for a device: the system's loader and cuBLAS read theirs only when a process starts. */
export function engineEnvironment(
  device: Device,
  { matmul, devices = [] }: StartOptions = {},
  env: NodeJS.ProcessEnv = process.env,
): NodeJS.ProcessEnv {
  const isCuda = [device, ...devices.map(deviceOf)].some(each => kindOf(each) === 'cuda')
  const libraries = isCuda ? [...cudaFolders(env), env['LD_LIBRARY_PATH'] ?? ''].filter(folder => folder !== '') : []
  return {
    ...ALLOCATION,
    ...env,
    ...(libraries.length > 0 && { LD_LIBRARY_PATH: libraries.join(delimiter) }),
    ...(isCuda && matmul === 'float32' && { NVIDIA_TF32_OVERRIDE: '0' }),
  }
}
