/** @file Folder and files of onnxruntime-node, found without loading it: its library may be what does not work. */

import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { arch, platform } from 'node:os'
import { dirname, join } from 'node:path'

const require = createRequire(import.meta.url)

/** Files of the CUDA provider, as they must be called beside onnxruntime's library. */
export const CUDA_PROVIDER_FILES = ['libonnxruntime_providers_shared.so', 'libonnxruntime_providers_cuda.so'] as const

/** Version of the package. */
export const packagedVersion = (): string =>
  (require('onnxruntime-node/package.json') as { readonly version: string }).version

/** Folder with onnxruntime's library for this system. It need not exist. */
export function runtimeFolder(): string {
  const folder = dirname(require.resolve('onnxruntime-node/package.json'))
  return join(folder, 'bin/napi-v6', platform(), arch())
}

/** The provider file that is not beside onnxruntime's library; undefined when both are there. */
export const missingProviderFile = (): string | undefined =>
  CUDA_PROVIDER_FILES.findLast(name => !existsSync(join(runtimeFolder(), name)))

/** The reason why onnxruntime-node has no CUDA on this system; undefined where it has. */
export function unsupportedByCuda(): string | undefined {
  const here = `${platform()} ${arch()}`
  return here === 'linux x64' ? undefined : `onnxruntime-node has CUDA on Linux x64 only, and this is ${here}`
}
