/**
 * @file A copy of the built package with an onnxruntime-node of its own, for tests that put files beside onnxruntime's library. The
 * other packages are links.
 */

import { copyFileSync, cpSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs'
import { arch, platform } from 'node:os'
import { join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '../..')

/** A copy of the package. */
export interface CopiedPackage {
  readonly folder: string
  /** Folder with onnxruntime's library. */
  readonly runtime: string
}

/** Links to everything in a folder but `except`. */
function linkAll(from: string, to: string, except: readonly string[]): void {
  mkdirSync(to, { recursive: true })
  for (const name of readdirSync(from)) if (!except.includes(name)) symlinkSync(join(from, name), join(to, name))
}

/** Makes a copy in `folder`, which must not exist. @throws where dist/ is missing (`npm run build`). */
export function copyPackage(folder: string): CopiedPackage {
  linkAll(join(root, 'node_modules'), join(folder, 'node_modules'), ['onnxruntime-node'])
  // Modules are looked for beside the file itself, not beside a link to it.
  for (const name of ['dist', 'bin', 'package.json']) cpSync(join(root, name), join(folder, name), { recursive: true })
  const libraries = join('bin/napi-v6', platform(), arch())
  const [from, to] = [root, folder].map(each => join(each, 'node_modules/onnxruntime-node')) as [string, string]
  for (const name of ['package.json', 'dist', 'lib']) cpSync(join(from, name), join(to, name), { recursive: true })
  const runtime = join(to, libraries)
  mkdirSync(runtime, { recursive: true })
  for (const name of readdirSync(join(from, libraries))) {
    // A provider of CUDA may be installed there; tests bring their own.
    if (!name.includes('_providers_')) copyFileSync(join(from, libraries, name), join(runtime, name))
  }
  return { folder, runtime }
}
