/** @file Model -> ONNX file, and data file beside it, one piece of a tensor in memory at a time. Complete or not at all. */

import { realpathSync, type Stats, statSync } from 'node:fs'
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { messageOf, QuantError } from '../errors.ts'
import { isInside } from './external-data.ts'
import type { Model } from './ir.ts'
import { type Layout, layOut, tensorsOf } from './layout.ts'
import { isFileRange, readPieces } from './tensor.ts'

export interface SaveOptions {
  /**
   * Weights in a data file: always, never, 'when-large' for one file of more than 1.5 GB. 'auto' (the default): as the source model
   * did, and when large.
   */
  readonly externalData?: 'auto' | 'when-large' | boolean
  /** Name of the data file, beside the model; `<model file name>.data` by default. */
  readonly dataFileName?: string
  /** Called when everything is written and nothing has its name yet; what it throws ends the saving without a result. */
  readonly beforePublish?: () => void
}

export interface SavedModel {
  /** Absolute paths: the model, then its data file if it has one. */
  readonly files: string[]
  readonly sizeBytes: number
}

/** Protobuf ends at 2 GiB; one file is unwieldy well before. */
const MAX_PROTOBUF_BYTES = 2 ** 31 - 1
const MAX_AUTO_INLINE_BYTES = 1.5e9
const CHUNK_BYTES = 16 * 2 ** 20

const statsOf = (path: string): Stats | undefined => {
  try {
    return statSync(path)
  } catch {
    return undefined // absent or out of reach: writing will say which
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await file.write(bytes, done, Math.min(bytes.length - done, 2 ** 30), position + done)
    done += bytesWritten
  }
}

async function write(layout: Layout, temporary: string): Promise<void> {
  const file = await open(temporary, 'w')
  const buffer = new Uint8Array(CHUNK_BYTES)
  try {
    for (const { offset, piece } of layout.pieces) {
      if (!isFileRange(piece)) {
        await writeAll(file, piece, offset)
        continue
      }
      let done = 0
      for (const bytes of readPieces(piece, buffer)) {
        await writeAll(file, bytes, offset + done)
        done += bytes.length
      }
    }
    await file.sync()
  } finally {
    await file.close()
  }
}

interface Finished {
  readonly temporary: string
  readonly path: string
}

/** Renames the data file into place, then the model; if the model cannot be, the data file is put back as it was. */
async function publish(model: Finished, data: Finished | undefined): Promise<void> {
  const backup = data && statsOf(data.path) ? `${data.temporary}.old` : undefined
  if (data && backup !== undefined) await rename(data.path, backup)
  try {
    if (data) await rename(data.temporary, data.path)
    await rename(model.temporary, model.path)
  } catch (error) {
    if (data) await (backup === undefined ? rm(data.path, { force: true }) : rename(backup, data.path))
    throw error
  }
  if (backup !== undefined) await rm(backup, { force: true })
}

const HINTS: Record<string, string> = {
  ENOSPC: 'The disk is full: free some space, or write to another disk.',
  EDQUOT: 'Your disk quota is used up: free some space, or write elsewhere.',
  EACCES: 'You may not write there: choose another output folder.',
  EPERM: 'You may not write there: choose another output folder.',
  EROFS: 'That disk is read-only: choose another output folder.',
  ENOTDIR: 'Part of that path is a file: choose another output folder.',
  EEXIST: 'Part of that path is a file: choose another output folder.',
}

function outputError(what: string, error: unknown): QuantError {
  if (error instanceof QuantError) return error
  const hint = HINTS[(error as NodeJS.ErrnoException).code ?? ''] ?? 'Choose another output folder.'
  return new QuantError('E_OUTPUT', `cannot write ${what}: ${messageOf(error)}`, hint, { cause: error })
}

/** Refuses folders, and files the model is still read from. */
function checkTarget(model: Model, target: string): void {
  const stats = statsOf(target)
  if (!stats) return
  if (stats.isDirectory()) {
    throw new QuantError('E_OUTPUT', `cannot write ${target}: it is a folder`, 'Give the name of a file in it.')
  }
  const sources = new Set<string>(model.path === undefined ? [] : [model.path])
  for (const { data } of tensorsOf(model.graph)) if (isFileRange(data)) sources.add(data.file)
  for (const source of sources) {
    const other = statsOf(source)
    if (other && other.dev === stats.dev && other.ino === stats.ino) {
      const hint = 'Choose another output folder or file name.'
      throw new QuantError('E_OUTPUT', `${target} is what the model is read from: it cannot be written over`, hint)
    }
  }
}

/** Whether the file the model came from keeps weights in data files, which lie in its folder or below. */
export function hasExternalSource(model: Model): boolean {
  if (model.path === undefined || !statsOf(model.path)) return false
  const file = realpathSync.native(model.path)
  const folders = [dirname(file), realpathSync.native(dirname(model.path))]
  const isDataFile = (other: string) => other !== file && folders.some(folder => isInside(folder, other))
  for (const { data } of tensorsOf(model.graph)) if (isFileRange(data) && isDataFile(data.file)) return true
  return false
}

/** What a file is called while it is written. */
export const temporaryOf = (path: string): string => join(dirname(path), `.${basename(path)}.tmp`)

/** Names of a model's data file, where it has one. */
const dataFileOf = (path: string, { dataFileName = `${basename(path)}.data` }: SaveOptions): string => dataFileName

/** What `saveModel` may leave behind when its process is killed. */
export function temporariesOf(path: string, options: SaveOptions = {}): string[] {
  const target = resolve(path)
  return [target, join(dirname(target), dataFileOf(target, options))].map(temporaryOf)
}

function chooseLayout(model: Model, path: string, options: SaveOptions): Layout[] {
  const { externalData = 'auto' } = options
  const dataFileName = dataFileOf(path, options)
  const dataPath = join(dirname(path), dataFileName)
  if (basename(dataPath) !== dataFileName || dataPath === path) {
    const hint = 'Give a file name without a folder, other than that of the model.'
    throw new QuantError('E_OUTPUT', `"${dataFileName}" cannot be the name of the data file of ${path}`, hint)
  }
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
 * Writes a model; folders are made as needed. Weights are copied in pieces of 16 MiB at most. Under the final names nothing
 * changes before everything is on disk, and nothing at all when writing fails. The same model gives the same bytes.
 * @throws E_OUTPUT, E_EXTERNAL_DATA when weights to be copied are gone
 */
export async function saveModel(model: Model, path: string, options: SaveOptions = {}): Promise<SavedModel> {
  const target = resolve(path)
  const layouts = chooseLayout(model, target, options)
  for (const layout of layouts) checkTarget(model, layout.path)
  const total = layouts.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
  const finished = layouts.map(layout => ({
    path: layout.path,
    temporary: temporaryOf(layout.path),
  }))
  try {
    await mkdir(dirname(target), { recursive: true })
    for (const [i, layout] of layouts.entries()) await write(layout, finished[i]!.temporary)
    options.beforePublish?.()
    await publish(finished[0]!, finished[1])
  } catch (error) {
    for (const { temporary } of finished) await rm(temporary, { force: true }).catch(() => undefined)
    throw outputError(`${target} (${(total / 1e6).toFixed(1)} MB)`, error)
  }
  return { files: layouts.map(layout => layout.path), sizeBytes: total }
}
