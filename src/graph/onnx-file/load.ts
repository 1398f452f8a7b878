/** @file ONNX file or folder -> Model. Weights are not read: they stay ranges of files. */

import { fstatSync, openSync, readdirSync, readSync, realpathSync, statSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { messageOf, QuantError } from '../../errors.ts'
import { closing } from '../../files/closing.ts'
import type { Model } from '../ir.ts'
import { MAX_STRUCTURE_BYTES } from '../limits.ts'
import { MIN_ON_DISK_BYTES, PAYLOAD_FIELDS } from './decode-tensor.ts'
import { decodeModel } from './decode.ts'
import type { ModelFile } from './external-data.ts'
import { exportHint, isCheckpoint, refuseCheckpoint, refuseNameElsewhere } from './no-onnx.ts'
import { sortTopologically, verify } from './verify.ts'
import { type ByteSource, LENGTH_DELIMITED, type Replace, rewriteTensors, standIn } from './wire.ts'

const WINDOW_BYTES = 64 * 1024

/** Folder of the model files in the layout of transformers.js, below the one with tokenizer and configuration. */
export const HUB_FOLDER = 'onnx'

/** Most names of a folder in an error message. */
const MAX_LISTED = 12

/** A file read through a small window. */
class FileSource implements ByteSource {
  readonly name: string
  readonly size: number
  private readonly descriptor: number
  private readonly window = new Uint8Array(WINDOW_BYTES)
  private windowStart = 0
  private windowEnd = 0
  private copied = 0

  constructor(name: string, descriptor: number) {
    this.name = name
    this.descriptor = descriptor
    this.size = fstatSync(descriptor).size
  }

  byteAt(position: number): number {
    if (position < this.windowStart || position >= this.windowEnd) {
      this.windowStart = position
      this.windowEnd = Math.min(position + WINDOW_BYTES, this.size)
      this.fill(this.window.subarray(0, this.windowEnd - position), position)
    }
    return this.window[position - this.windowStart]!
  }

  copy(start: number, end: number): Uint8Array {
    this.copied += end - start
    if (this.copied > MAX_STRUCTURE_BYTES) {
      throw new QuantError(
        'E_TOO_LARGE',
        `${this.name} has more than ${MAX_STRUCTURE_BYTES / 2 ** 20} MB besides its weights`,
        'Weights within functions, sparse tensors or lists of tensors are not supported: export them as initializers.',
      )
    }
    const bytes = new Uint8Array(end - start)
    this.fill(bytes, start)
    return bytes
  }

  private fill(bytes: Uint8Array, position: number): void {
    for (let done = 0; done < bytes.length;) {
      const got = readSync(this.descriptor, bytes, done, bytes.length - done, position + done)
      if (got === 0) throw new QuantError('E_TRUNCATED', `${this.name} became shorter while it was read`)
      done += got
    }
  }
}

const list = (names: readonly string[]): string =>
  names.length === 0
    ? 'nothing'
    : names.slice(0, MAX_LISTED).join(', ') + (names.length > MAX_LISTED ? `, ${names.length - MAX_LISTED} more` : '')

function kindOf(path: string): 'file' | 'folder' | undefined {
  try {
    const stats = statSync(path)
    return stats.isFile() ? 'file' : stats.isDirectory() ? 'folder' : undefined
  } catch {
    return undefined // absent, or in a folder we may not look into
  }
}

/** Names of the .onnx files in a folder, sorted. */
const modelsIn = (folder: string): string[] =>
  readdirSync(folder)
    .sort()
    .filter(name => name.endsWith('.onnx') && kindOf(join(folder, name)) === 'file')

const isUsual = (path: string): boolean => basename(path) === 'model.onnx'

/** The model file that was meant: itself, or the one in the folder. @throws E_FILE_NOT_FOUND listing what is there; E_NOT_ONNX */
function findModelFile(given: string): string {
  const path = resolve(given)
  const kind = kindOf(path)
  if (kind === 'file') {
    refuseCheckpoint(path)
    return path
  }
  if (kind === undefined) {
    refuseNameElsewhere(given)
    const folder = dirname(path)
    const there = kindOf(folder) === 'folder' ? `${folder} has ${list(readdirSync(folder).sort())}` : `nor is ${folder}`
    throw new QuantError(
      'E_FILE_NOT_FOUND',
      `${path} is not there; ${there}`,
      'Give the path of an .onnx file or its folder.',
    )
  }
  const names = readdirSync(path).sort()
  const own = modelsIn(path)
  const found = own.length === 1 ? own[0] : own.find(isUsual)
  if (found !== undefined) return join(path, found)
  const hub = join(path, HUB_FOLDER)
  const models = [...own, ...(kindOf(hub) === 'folder' ? modelsIn(hub) : []).map(name => join(HUB_FOLDER, name))]
  const below = models.length === 1 ? models[0] : models.find(isUsual)
  if (below !== undefined) return join(path, below)
  throw new QuantError(
    'E_FILE_NOT_FOUND',
    models.length > 1
      ? `${path} has several models and none is called model.onnx: ${list(models)}`
      : `there is no .onnx file in ${path}; it has ${list(names)}`,
    models.length > 1
      ? 'Give the path of the one you mean.'
      : names.some(isCheckpoint)
        ? exportHint(path)
        : 'Give the path of an .onnx file or its folder.',
  )
}

// Files given by mistake, by their first bytes.
const LOOKALIKES: readonly { readonly start: string; readonly what: string; readonly hint: string }[] = [
  { start: 'version https://git-lfs', what: 'a Git LFS pointer', hint: 'Fetch the model itself with "git lfs pull".' },
  { start: 'PK\x03\x04', what: 'a zip archive', hint: 'Unpack it, or export the checkpoint to ONNX first.' },
  { start: 'ORTM', what: 'an onnxruntime .ort file', hint: 'Give the .onnx file it was made from.' },
  { start: 'GGUF', what: 'a GGUF file', hint: exportHint('CHECKPOINT') },
]

function refuseLookalikes(source: ByteSource): void {
  if (source.size === 0) throw new QuantError('E_NOT_ONNX', `${source.name} is empty`, 'Copy or download it again.')
  const head = Buffer.from(source.copy(0, Math.min(source.size, 64))).toString('latin1')
  // Flatbuffers carry their name four bytes in.
  const found = LOOKALIKES.find(({ start }) => head.startsWith(start) || head.slice(4).startsWith(start))
  if (found) throw new QuantError('E_NOT_ONNX', `${source.name} is ${found.what}, not an ONNX model`, found.hint)
}

const leaveLargePayloads: Replace = ({ field, wireType, start, end }) =>
  wireType === LENGTH_DELIMITED && end - start >= MIN_ON_DISK_BYTES && PAYLOAD_FIELDS.has(field)
    ? [standIn([field, start, end - start])]
    : undefined

/** The encoded model with large payloads left where they are, and the file they are in. */
function readStructure(path: string): { bytes: Uint8Array; file: ModelFile } {
  let descriptor: number
  let realPath: string
  try {
    realPath = realpathSync.native(path)
    descriptor = openSync(realPath, 'r')
  } catch (error) {
    throw new QuantError('E_FILE_NOT_FOUND', `${path} cannot be read: ${messageOf(error)}`, 'Check its permissions.')
  }
  return closing(descriptor, () => {
    const source = new FileSource(path, descriptor)
    refuseLookalikes(source)
    // Everything is a copy: all pieces are bytes.
    const pieces = rewriteTensors(source, leaveLargePayloads, MIN_ON_DISK_BYTES) as Uint8Array[]
    const joined = Buffer.concat(pieces)
    // Not a Buffer: the decoder would hand out Buffers, whose `slice` does not copy.
    const bytes = new Uint8Array(joined.buffer, joined.byteOffset, joined.length)
    return { bytes, file: { path, realPath, sizeBytes: source.size } }
  })
}

/**
 * Reads the structure of a model: an .onnx file, or a folder with model.onnx, a single .onnx file, or one of these in onnx/.
 * Tensors from 1 KiB up stay on disk (`FileRange`), in the model file itself or in its external data. Nodes are in topological order.
 * @throws E_FILE_NOT_FOUND, E_NOT_ONNX, E_TRUNCATED, E_EXTERNAL_DATA, E_UNSUPPORTED, E_TOO_LARGE
 */
export function loadModel(path: string): Model {
  const { bytes, file } = readStructure(findModelFile(path))
  const model = decodeModel(bytes, file)
  try {
    for (const graph of [model.graph, ...[...(model.functions?.values() ?? [])].map(({ body }) => body)]) {
      sortTopologically(graph)
      verify(graph)
    }
  } catch (error) {
    if (!(error instanceof QuantError)) throw error
    throw new QuantError(error.code, `${basename(file.path)}: ${error.message}`, 'Export the model again.', {
      cause: error,
    })
  }
  return model
}
