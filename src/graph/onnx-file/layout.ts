/** @file Layout of a saved model: the place of every byte, before anything is written. Reads and writes no files. */

import { basename } from 'node:path'
import { isFileRange } from '../../files/file-range.ts'
import type { Model } from '../ir.ts'
import { RAW_DATA } from './decode-tensor.ts'
import { encodeModel, type Place } from './encode.ts'
import {
  LENGTH_DELIMITED,
  memorySource,
  type Piece,
  readVarints,
  recordHeader,
  rewriteTensors,
  STAND_IN,
  standIn,
} from './wire.ts'

/** Content of a file: pieces at ascending offsets, zeros between them. */
export interface Layout {
  readonly path: string
  readonly pieces: { readonly offset: number; readonly piece: Piece }[]
  sizeBytes: number
}

/** Smallest tensor in bytes that is streamed, to the data file if there is one. */
const MIN_STREAMED_BYTES = 1024

/** Alignment for any element type; large tensors begin on a page, so that they can be mapped into memory. */
const alignmentOf = (length: number): number => (length >= 2 ** 20 ? 4096 : 64)

function append(layout: Layout, piece: Piece, alignment = 1): number {
  const offset = Math.ceil(layout.sizeBytes / alignment) * alignment
  layout.pieces.push({ offset, piece })
  layout.sizeBytes = offset + piece.length
  return offset
}

/** Layouts of the model file at `path` and of the data file, if `dataPath` is given and a tensor is large enough. */
export function layOut(model: Model, path: string, dataPath?: string): Layout[] {
  const data: Layout | undefined = dataPath === undefined ? undefined : { path: dataPath, pieces: [], sizeBytes: 0 }
  const offsets = new Map<unknown, number>()
  const streamed: Piece[] = []
  const place: Place = ({ data: bytes }) => {
    if (data && bytes.length >= MIN_STREAMED_BYTES) {
      // The same bytes, by identity or range, are written once: tied weights stay tied.
      const key = isFileRange(bytes)
        ? `${bytes.file}:${bytes.offset}:${bytes.length}:${bytes.conversion !== undefined}`
        : bytes
      const offset = offsets.get(key) ?? append(data, bytes, alignmentOf(bytes.length))
      offsets.set(key, offset)
      return { location: basename(data.path), offset, length: bytes.length }
    }
    if (!isFileRange(bytes) && bytes.length < MIN_STREAMED_BYTES) return undefined
    streamed.push(bytes)
    return { standIn: standIn([streamed.length - 1]) }
  }
  const frame = memorySource(encodeModel(model, place))
  const pieces = rewriteTensors(frame, ({ field, wireType, start, end }) => {
    if (field !== STAND_IN || wireType !== LENGTH_DELIMITED) return undefined
    const payload = streamed[readVarints(frame, start, end)[0]!]!
    return [recordHeader(RAW_DATA, payload.length), payload]
  })
  const main: Layout = { path, pieces: [], sizeBytes: 0 }
  for (const piece of pieces) append(main, piece)
  return data && data.pieces.length > 0 ? [main, data] : [main]
}
