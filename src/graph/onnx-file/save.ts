/** @file Model -> ONNX file and data file, with one piece of a tensor in memory at a time. Both appear complete or not at all. */

import { realpathSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { QuantError } from '../../errors.ts'
import type { AtomicFile } from '../../files/atomic-file.ts'
import { diskError } from '../../files/disk-errors.ts'
import { isFileRange, readPieces } from '../../files/file-range.ts'
import { type FileSet, publishTogether } from '../../files/file-set.ts'
import { checkReplaceable, statsOf } from '../../files/names.ts'
import { type Model, tensorsOf } from '../ir.ts'
import { isInside } from './external-data.ts'
import { type Layout, layOut } from './layout.ts'

export interface SaveOptions {
  /**
   * Weights in a data file: always, never, 'when-large' for one file of more than 1.5 GB. 'auto' (the default): as the source model
   * did, and when large.
   */
  readonly externalData?: 'auto' | 'when-large' | boolean
  /** Name of the data file, beside the model; `<model file name>.data` by default. */
  readonly dataFileName?: string
  /** Called with the bytes that are written, of how many: every 16 MiB, and at the end. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined
}

export interface SavedModel {
  /** Absolute paths: the model, then its data file if it has one. */
  readonly files: string[]
  readonly sizeBytes: number
}

/** Largest message of protobuf. */
const MAX_PROTOBUF_BYTES = 2 ** 31 - 1

/** Largest model that goes into one file by default. */
const MAX_AUTO_INLINE_BYTES = 1.5e9

const CHUNK_BYTES = 16 * 2 ** 20

/** @param onBytes called with the number of bytes, for every piece. */
async function write(layout: Layout, file: AtomicFile, onBytes: (count: number) => void): Promise<void> {
  const buffer = new Uint8Array(CHUNK_BYTES)
  for (const { offset, piece } of layout.pieces) {
    if (!isFileRange(piece)) {
      file.write(piece, offset)
      onBytes(piece.length)
      continue
    }
    let done = 0
    for (const bytes of readPieces(piece, buffer)) {
      file.write(bytes, offset + done)
      done += bytes.length
      onBytes(bytes.length)
    }
    await nextTurn() // Writing takes long: timers and signals of the process run in between.
  }
}

/** Adds up bytes, and tells of every chunk of them. */
function counter(total: number, tell: SaveOptions['onProgress']): (count: number) => void {
  let done = 0
  let told = 0
  return count => {
    done += count
    if (done - told < CHUNK_BYTES && done < total) return
    told = done
    tell?.(done, total)
  }
}

/** Refuses a path of something other than a file, or of a file that the model is read from. @throws E_OUTPUT */
export function checkTarget(model: Model, target: string): void {
  checkReplaceable(target)
  const stats = statsOf(target)
  if (!stats) return
  const sources = new Set<string>(model.path === undefined ? [] : [model.path])
  for (const { data } of tensorsOf(model)) if (isFileRange(data)) sources.add(data.file)
  for (const source of sources) {
    const other = statsOf(source)
    if (other && other.dev === stats.dev && other.ino === stats.ino) {
      const hint = 'Choose another output folder or file name.'
      throw new QuantError('E_OUTPUT', `${target} is what the model is read from: it cannot be written over`, hint)
    }
  }
}

/** True when the model was loaded from a file with data files, which lie in its folder or below. */
export function hasExternalSource(model: Model): boolean {
  if (model.path === undefined || !statsOf(model.path)) return false
  const file = realpathSync.native(model.path)
  const folders = [dirname(file), realpathSync.native(dirname(model.path))]
  const isDataFile = (other: string) => other !== file && folders.some(folder => isInside(folder, other))
  for (const { data } of tensorsOf(model)) if (isFileRange(data) && isDataFile(data.file)) return true
  return false
}

/** Absolute path of a model's data file, if it gets one. @throws E_OUTPUT for a name with a folder */
export function dataPathOf(path: string, { dataFileName = `${basename(path)}.data` }: SaveOptions): string {
  const dataPath = join(dirname(path), dataFileName)
  if (basename(dataPath) !== dataFileName || dataPath === path) {
    const hint = 'Give a file name without a folder, other than that of the model.'
    throw new QuantError('E_OUTPUT', `"${dataFileName}" cannot be the name of the data file of ${path}`, hint)
  }
  return resolve(dataPath)
}

/**
 * Layouts of the files that a model would be written to: the model file, then the data file if it gets one. Writes nothing.
 * @throws E_OUTPUT for one file above 2 GiB
 */
export function chooseLayout(model: Model, path: string, options: SaveOptions): Layout[] {
  const { externalData = 'auto' } = options
  const dataPath = dataPathOf(path, options)
  if (externalData === true || (externalData === 'auto' && hasExternalSource(model)))
    return layOut(model, path, dataPath)
  const layouts = layOut(model, path)
  const size = layouts[0]!.sizeBytes
  if (externalData !== false && size > MAX_AUTO_INLINE_BYTES) return layOut(model, path, dataPath)
  if (size > MAX_PROTOBUF_BYTES) {
    throw new QuantError(
      'E_OUTPUT',
      `${path} would have ${(size / 1e9).toFixed(2)} GB, but an ONNX file ends at 2 GiB`,
      'Let the weights go to a data file beside it.',
    )
  }
  return layouts
}

/**
 * Writes a model and its data file into a set, the model as its head. Weights are copied in pieces of at most 16 MiB.
 * @throws E_OUTPUT, E_EXTERNAL_DATA when weights to be copied are gone
 */
export async function writeModel(set: FileSet, model: Model, options: SaveOptions = {}): Promise<SavedModel> {
  const layouts = chooseLayout(model, set.head, options)
  for (const layout of layouts) checkTarget(model, layout.path)
  const sizeBytes = layouts.reduce((sum, layout) => sum + layout.sizeBytes, 0)
  const onBytes = counter(sizeBytes, options.onProgress)
  try {
    for (const layout of layouts) await write(layout, set.add(layout.path), onBytes)
  } catch (error) {
    throw diskError(`cannot write ${set.head} (${(sizeBytes / 1e6).toFixed(1)} MB)`, error)
  }
  return { files: layouts.map(layout => layout.path), sizeBytes }
}

/**
 * Writes a model and its data file; folders are made as needed. The files get their names when both are on the disk; when writing
 * fails, nothing changes. The same model gives the same bytes.
 * @throws as `writeModel`
 */
export async function saveModel(model: Model, path: string, options: SaveOptions = {}): Promise<SavedModel> {
  const target = resolve(path)
  try {
    return await publishTogether(target, set => writeModel(set, model, options))
  } catch (error) {
    throw diskError(`cannot write ${target}`, error)
  }
}
