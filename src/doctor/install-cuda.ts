/** @file Fetches the CUDA provider of onnxruntime and CUDA's libraries into a folder, and links the provider beside onnxruntime's library. */

import {
  accessSync,
  constants,
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  symlinkSync,
} from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { makeFolder } from '../files/folders.ts'
import { messageOf, QuantError } from '../errors.ts'
import { writeAtomically } from '../files/atomic-file.ts'
import { diskError } from '../files/disk-errors.ts'
import { CUDA_PROVIDER_FILES, packagedVersion, runtimeFolder, unsupportedByCuda } from '../kernels/runtime-folder.ts'
import { CUDA_WHEELS, type CudaWheel } from './cuda-wheels.ts'
import { download, findFile, packageIndex } from './package-index.ts'
import { type UnpackedFile, unpack } from './wheel.ts'

/** Settings of an installation; the defaults are those of this machine. */
export interface Installing {
  /** Folder that gets the files. */
  readonly into?: string | undefined
  readonly onProgress?: (text: string) => void
  readonly signal?: AbortSignal | undefined
  readonly wheels?: readonly CudaWheel[]
  readonly index?: string
  /** Folder of onnxruntime's library. */
  readonly runtime?: string
}

/** Work that was done. */
export interface InstallReport {
  readonly folder: string
  /** Projects that were fetched, and those whose files were there already. */
  readonly fetched: readonly string[]
  readonly kept: readonly string[]
  readonly downloadedBytes: number
  readonly files: readonly UnpackedFile[]
  /** Links beside onnxruntime's library. */
  readonly links: readonly string[]
  /** Commands that undo it. */
  readonly undo: readonly string[]
}

/** Record of a folder: the files of each wheel, by its sum. */
type Manifest = Record<string, readonly UnpackedFile[]>

const MANIFEST = 'omniquant-cuda.json'

/** Folder of its own for each version of onnxruntime, where programs of a user keep data. */
export function usualFolder(version: string, env: NodeJS.ProcessEnv = process.env): string {
  const data = env['XDG_DATA_HOME'] || join(homedir(), '.local/share')
  return join(data, 'omniquant', `cuda-for-onnxruntime-${version}`)
}

const quoted = (path: string): string => (/^[\w@%+=:,./-]+$/.test(path) ? path : `'${path.replace(/'/g, "'\\''")}'`)

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(0)} MB`

/** The wheels for this system. @throws E_DEVICE */
function wheelsHere(): readonly CudaWheel[] {
  const unsupported = unsupportedByCuda()
  if (unsupported !== undefined)
    throw new QuantError(
      'E_DEVICE',
      unsupported,
      'WebGPU uses the GPU here, without anything to install (docs/gpu.md).',
    )
  const version = packagedVersion()
  const wheels = CUDA_WHEELS[version]
  if (wheels) return wheels
  throw new QuantError(
    'E_DEVICE',
    `which CUDA goes with onnxruntime ${version} is not known here`,
    `Known: ${Object.keys(CUDA_WHEELS).join(', ')}. docs/gpu.md says how to do it by hand.`,
  )
}

/** Refuses what would fail only after the download. @throws E_OUTPUT */
function checkPlaces(folder: string, runtime: string, wheels: readonly CudaWheel[]): void {
  for (const path of providerLinks(runtime)) {
    if (lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() !== false) continue
    throw new QuantError(
      'E_OUTPUT',
      `${path} is there already, and no link`,
      `npm's own installation put it there. If it does not work, remove it and run this again: rm ${quoted(path)}`,
    )
  }
  try {
    accessSync(runtime, constants.W_OK)
  } catch (error) {
    throw new QuantError(
      'E_OUTPUT',
      `the provider cannot be put beside onnxruntime's library: ${messageOf(error)}`,
      'Run this as the user that the package was installed by.',
      { cause: error },
    )
  }
  const needed = wheels.reduce((sum, { unpackedBytes }) => sum + unpackedBytes, 0)
  const largest = Math.max(0, ...wheels.map(({ bytes }) => bytes))
  const { bavail, bsize } = statfsSync(folder)
  if (bavail * bsize >= needed + largest) return
  throw new QuantError(
    'E_OUTPUT',
    `${folder} has ${megabytes(bavail * bsize)} free, and ${megabytes(needed + largest)} are needed`,
    'Choose a folder on another disk with `--into FOLDER`.',
  )
}

const providerLinks = (runtime: string): string[] => CUDA_PROVIDER_FILES.map(name => join(runtime, name))

/** Makes the folder, or takes one that an earlier call made. @throws E_OUTPUT for a folder with files of others, which `undo` would remove. */
function openFolder(folder: string): Manifest {
  makeFolder(folder)
  const path = join(folder, MANIFEST)
  if (existsSync(path)) return readManifest(path)
  if (readdirSync(folder).length > 0)
    throw new QuantError('E_OUTPUT', `${folder} holds other files`, 'Give a folder of its own: `--into FOLDER`.')
  writeManifest(folder, {})
  return {}
}

/** @throws E_OUTPUT */
function readManifest(path: string): Manifest {
  try {
    return { ...(JSON.parse(readFileSync(path, 'utf8')) as Manifest) }
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    throw new QuantError(
      'E_OUTPUT',
      `${path} is damaged: ${error.message}`,
      'Remove that folder, or give another one with `--into FOLDER`.',
    )
  }
}

const writeManifest = (folder: string, manifest: Manifest): void =>
  writeAtomically(join(folder, MANIFEST), Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`))

/** True when the files of a wheel are in the folder, as long as they were. */
const isComplete = (folder: string, files: readonly UnpackedFile[] | undefined): boolean =>
  files?.every(({ name, bytes }) => statSync(join(folder, name), { throwIfNoEntry: false })?.size === bytes) ?? false

/** Fetches a wheel and unpacks what is needed of it. */
async function fetchWheel(
  wheel: CudaWheel,
  folder: string,
  { onProgress = () => {}, signal, index = packageIndex() }: Installing,
): Promise<UnpackedFile[]> {
  const path = join(folder, wheel.file)
  try {
    const address = await findFile(index, wheel.project, wheel.file, signal)
    const total = megabytes(wheel.bytes)
    await download(address, path, wheel, done => onProgress(`${wheel.project}  ${megabytes(done)} of ${total}`), signal)
    onProgress(`${wheel.project}  unpacking`)
    const files = await unpack(path, wheel.needed, folder)
    if (files.length > 0) return files
    throw new QuantError('E_DOWNLOAD', `${wheel.file} holds none of the files that are needed`)
  } finally {
    rmSync(path, { force: true })
  }
}

/**
 * Fetches what is not there yet, and links it. Nothing else on the system changes.
 * @throws E_DOWNLOAD, E_OUTPUT; E_DEVICE where there is no CUDA for onnxruntime-node; the AbortSignal's reason when aborted. Wheels that
 * were unpacked before stay for the next call.
 */
export async function installCuda(installing: Installing = {}): Promise<InstallReport> {
  const { wheels = wheelsHere(), runtime = runtimeFolder() } = installing
  const folder = resolve(installing.into ?? usualFolder(packagedVersion()))
  try {
    const manifest = openFolder(folder)
    const missing = wheels.filter(({ sha256 }) => !isComplete(folder, manifest[sha256]))
    checkPlaces(folder, runtime, missing)
    for (const wheel of missing) {
      manifest[wheel.sha256] = await fetchWheel(wheel, folder, installing)
      writeManifest(folder, manifest)
    }
    const links = providerLinks(runtime)
    for (const [i, link] of links.entries()) {
      rmSync(link, { force: true })
      symlinkSync(join(folder, CUDA_PROVIDER_FILES[i]!), link)
    }
    return {
      folder,
      fetched: missing.map(({ project }) => project),
      kept: wheels.filter(wheel => !missing.includes(wheel)).map(({ project }) => project),
      downloadedBytes: missing.reduce((sum, { bytes }) => sum + bytes, 0),
      files: wheels.flatMap(({ sha256 }) => manifest[sha256]!),
      links,
      undo: [`rm ${links.map(quoted).join(' ')}`, `rm -r ${quoted(folder)}`],
    }
  } catch (error) {
    installing.signal?.throwIfAborted()
    throw (error as NodeJS.ErrnoException).syscall === undefined ? error : diskError('CUDA cannot be installed', error)
  }
}
