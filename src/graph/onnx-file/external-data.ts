/** @file Resolves external-data entries of ONNX to ranges of files, and refuses unsafe ones. Knows no tensor. */

import { realpathSync, statSync } from 'node:fs'
import { basename, dirname, isAbsolute, join, relative, resolve, sep, win32 } from 'node:path'
import { messageOf, QuantError } from '../../errors.ts'
import type { FileRange } from '../../files/file-range.ts'

/** Most characters of a path; Linux takes 4096 bytes. */
const MAX_LOCATION = 4096

/** The file a model is read from. */
export interface ModelFile {
  /** Absolute path, links not resolved. */
  readonly path: string
  /** Absolute path, links resolved. */
  readonly realPath: string
  readonly sizeBytes: number
}

/** True when the path `file` lies in `folder` or below it. */
export const isInside = (folder: string, file: string): boolean => {
  const path = relative(folder, file)
  return path !== '..' && !path.startsWith(`..${sep}`) && !isAbsolute(path)
}

/** True for files of Hugging Face's cache: links in `<repository>/snapshots/<revision>` lead to `<repository>/blobs`. */
const isCached = (folder: string, file: string): boolean =>
  basename(dirname(folder)) === 'snapshots' && isInside(join(dirname(dirname(folder)), 'blobs'), file)

/**
 * True for files that belong to the model, so that links to them may be followed: files in the folder or below it, beside the model
 * file itself, or in the cache of the folder.
 * @param file links resolved. @param folder where the link lies. @param realModel the model file, links resolved.
 */
export function belongsToModel(file: string, folder: string, realModel: string): boolean {
  const realFolder = realpathSync.native(folder)
  return isInside(realFolder, file) || isInside(dirname(realModel), file) || isCached(realFolder, file)
}

/**
 * Checks an external-data entry and resolves it. `length` is what the tensor's dims and type need; entries may leave theirs
 * out. As in onnxruntime, data must lie in the model's folder or below it; links count by where they lead, and a model that is
 * itself a link (Hugging Face's cache) may have its data beside the file it leads to.
 * @throws E_EXTERNAL_DATA naming tensor, location and file
 */
export function resolveExternalData(
  entries: ReadonlyMap<string, string>,
  tensor: string,
  length: number,
  model: ModelFile | undefined,
): FileRange {
  const location = entries.get('location') ?? ''
  const refuse = (problem: string, hint: string, cause?: unknown): QuantError =>
    new QuantError(
      'E_EXTERNAL_DATA',
      `${tensor} has its values in "${location.slice(0, MAX_LOCATION)}", ${problem}`,
      hint,
      { cause },
    )
  const badEntry = 'The model was written wrongly: export it again.'

  if (location === '' || location.includes('\0') || location.length > MAX_LOCATION)
    throw refuse('which is not a file name', badEntry)
  if (model === undefined) throw refuse('but the model has no folder to look in', 'Load the model from its file.')
  const unsafe =
    'For safety, data files are only read from the folder of the model: put the file there and export again.'
  if (isAbsolute(location) || win32.isAbsolute(location)) throw refuse('an absolute path', unsafe)
  const folder = dirname(model.path)
  const path = resolve(folder, location)
  if (!isInside(folder, path)) throw refuse('outside the folder of the model', unsafe)

  let file: string
  let available: number
  try {
    file = realpathSync.native(path)
    const stats = statSync(file)
    if (!stats.isFile()) throw new Error('not a file')
    available = stats.size
  } catch (error) {
    throw refuse(
      `but ${path} cannot be read: ${messageOf(error)}`,
      'Put the data file beside the model, where the exporter wrote it.',
      error,
    )
  }
  if (!belongsToModel(file, folder, model.realPath)) {
    throw refuse(`a link that leads out of the folder of the model, to ${file}`, unsafe)
  }

  if (file === model.realPath) throw refuse('the model file itself', badEntry)

  const number = (key: string, fallback: number): number => {
    const text = entries.get(key)
    if (text === undefined) return fallback
    const value = /^\d{1,16}$/.test(text) ? Number(text) : NaN
    if (!Number.isSafeInteger(value)) throw refuse(`with ${key} "${text}", which is not a number of bytes`, badEntry)
    return value
  }
  const offset = number('offset', 0)
  const given = number('length', length)
  if (given !== length) throw refuse(`with a length of ${given} bytes where its dims and type need ${length}`, badEntry)
  if (offset + length > available) {
    throw refuse(
      `bytes ${offset} to ${offset + length}, but ${path} has only ${available}`,
      'The data file is incomplete (or a Git LFS pointer): copy or download it again.',
    )
  }
  return { file, offset, length }
}
