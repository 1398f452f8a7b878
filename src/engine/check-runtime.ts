/** @file Check that onnxruntime's library is installed. Nothing works without it, and the messages of Node do not say what to do. */

import { readdirSync } from 'node:fs'
import { arch, platform } from 'node:os'
import { dirname } from 'node:path'
import { QuantError } from '../errors.ts'
import { runtimeFolder } from '../kernels/runtime-folder.ts'

/** Its post-install fetches CUDA, and fails the whole installation where that cannot be reached. */
const INSTALL =
  'Install it without CUDA: `ONNXRUNTIME_NODE_INSTALL=skip npm install omniquant` (with -g where it was installed with -g).'

/** Files of every system: the binding and onnxruntime itself. */
const NEEDED = [/^onnxruntime_binding\.node$/, /^(lib)?onnxruntime\.(dll|so|.*dylib)/]

/** Names in a folder; none where there is no such folder. */
function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

/** Folder with the library for this system; undefined where the package is not there. */
function installed(): string | undefined {
  try {
    return runtimeFolder()
  } catch {
    return undefined
  }
}

/** @throws E_ENGINE where onnxruntime-node is not there, or lacks the library for this system. */
export function checkRuntime(): void {
  const folder = installed()
  if (folder === undefined) throw new QuantError('E_ENGINE', 'onnxruntime-node is not installed', INSTALL)
  const names = namesIn(folder)
  if (NEEDED.every(file => names.some(name => file.test(name)))) return
  const systems = namesIn(dirname(dirname(folder)))
  if (systems.length > 0 && names.length === 0)
    throw new QuantError(
      'E_ENGINE',
      `onnxruntime-node has no library for ${platform()} ${arch()}`,
      'It has libraries for Linux and Windows (x64, arm64) and for macOS (arm64).',
    )
  throw new QuantError('E_ENGINE', `onnxruntime-node is installed without its library: ${folder} lacks files`, INSTALL)
}
