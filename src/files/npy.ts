/** @file NumPy's .npy files of plain numbers. Trusts no header: what is allocated is bounded by what the file holds. */

import { fstatSync, openSync, readSync, statSync } from 'node:fs'
import { messageOf, QuantError } from '../errors.ts'
import { closing } from './closing.ts'

interface Arrays {
  int64: BigInt64Array
  int32: Int32Array
  uint16: Uint16Array
  uint8: Uint8Array
  float32: Float32Array
}

type ElementType = keyof Arrays

/** Row-major (C order) numbers with their dims; `dims` is empty for a scalar. */
export type NpyArray = {
  [K in ElementType]: { readonly dtype: K; readonly dims: readonly number[]; readonly data: Arrays[K] }
}[ElementType]

/** NumPy's names of the types, little-endian ('|' where order does not matter). */
const DESCRIPTORS: ReadonlyMap<string, ElementType> = new Map<string, ElementType>([
  ['<i8', 'int64'],
  ['<i4', 'int32'],
  ['<u2', 'uint16'],
  ['|u1', 'uint8'],
  ['<u1', 'uint8'],
  ['<f4', 'float32'],
])

/** Element type -> array of the machine, which is little-endian. */
const VIEWS = {
  int64: BigInt64Array,
  int32: Int32Array,
  uint16: Uint16Array,
  uint8: Uint8Array,
  float32: Float32Array,
} as const

const MAGIC = Buffer.from('\x93NUMPY', 'latin1')

/** Headers of arrays are about 120 bytes; the format's own limit for untrusted files is 10 000. */
const MAX_HEADER_BYTES = 10_000

const MAX_RANK = 32

/** Tokens of 500 MB of text: a gigabyte of int64. */
const MAX_ELEMENTS = 2 ** 27

const SAVE_HINT = 'Save it with numpy.save as a C-ordered array of int64, int32, uint16, uint8 or float32.'

function bad(path: string, what: string, hint: string = SAVE_HINT): QuantError {
  return new QuantError('E_CALIBRATION', `${path}: ${what}`, hint)
}

function readAt(descriptor: number, position: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length)
  let done = 0
  while (done < length) {
    const got = readSync(descriptor, bytes, done, Math.min(length - done, 1 << 30), position + done)
    if (got === 0) break
    done += got
  }
  return bytes.subarray(0, done)
}

interface Header {
  readonly dtype: ElementType
  readonly dims: readonly number[]
  /** Start of the numbers, in bytes. */
  readonly offset: number
}

/** The header is a Python dict literal: {'descr': '<i8', 'fortran_order': False, 'shape': (128, 256), } */
function parseHeader(path: string, descriptor: number): Header {
  const start = Buffer.from(readAt(descriptor, 0, 12))
  if (start.length < 10 || !start.subarray(0, 6).equals(MAGIC)) throw bad(path, 'is not a .npy file')
  const version = start[6]!
  if (version < 1 || version > 3) throw bad(path, `is .npy version ${version}; versions 1 to 3 are known`)
  if (version > 1 && start.length < 12) throw bad(path, 'ends inside its header', 'Copy the file again.')
  const headerAt = version === 1 ? 10 : 12
  const length = version === 1 ? start.readUInt16LE(8) : start.readUInt32LE(8)
  if (length > MAX_HEADER_BYTES) throw bad(path, `has a header of ${length} bytes, more than any array needs`)
  const bytes = readAt(descriptor, headerAt, length)
  if (bytes.length < length) throw bad(path, 'ends inside its header', 'Copy the file again.')

  const text = Buffer.from(bytes).toString('latin1')
  const descr = /'descr':\s*'([^']*)'/.exec(text)?.[1]
  const order = /'fortran_order':\s*(True|False)/.exec(text)?.[1]
  const shape = /'shape':\s*\(([\d\s,L]*)\)/.exec(text)?.[1]
  if (order === undefined || shape === undefined) throw bad(path, `has a header that cannot be read: ${text.trim()}`)
  const dtype = descr === undefined ? undefined : DESCRIPTORS.get(descr)
  if (dtype === undefined) throw bad(path, `holds ${descr === undefined ? 'records' : `numbers of type '${descr}'`}`)
  const dims = (shape.match(/\d+/g) ?? []).map(Number)
  if (dims.length > MAX_RANK) throw bad(path, `says it has ${dims.length} dimensions`)
  if (order === 'True' && dims.filter(dim => dim > 1).length > 1) throw bad(path, 'is in Fortran order')
  return { dtype, dims, offset: headerAt + length }
}

/**
 * Reads a whole .npy file (versions 1 to 3, little-endian, C order).
 * @throws E_FILE_NOT_FOUND; E_CALIBRATION, naming the file, when header and contents do not agree or the type is another.
 */
export function readNpy(path: string): NpyArray {
  let descriptor: number
  try {
    // Asked before opening: a pipe would never open.
    if (!statSync(path).isFile()) throw bad(path, 'is not a file')
    descriptor = openSync(path, 'r')
  } catch (error) {
    if (error instanceof QuantError) throw error
    throw new QuantError('E_FILE_NOT_FOUND', `cannot read ${path}: ${messageOf(error)}`)
  }
  return closing(descriptor, () => {
    const { dtype, dims, offset } = parseHeader(path, descriptor)
    const there = fstatSync(descriptor).size - offset
    const count = dims.reduce((product, dim) => product * dim, 1)
    const needed = count * VIEWS[dtype].BYTES_PER_ELEMENT
    // Compared before anything is allocated; absurd dims give a huge number, or one that is not safe, and fail here.
    if (!Number.isSafeInteger(needed) || needed !== there) {
      throw bad(
        path,
        `says it holds [${dims.join(', ')}] of ${dtype}, which is ${needed} bytes, but has ${there}`,
        'The file is damaged or incomplete: copy it again.',
      )
    }
    if (count > MAX_ELEMENTS)
      throw bad(path, `holds [${dims.join(', ')}], more than ${MAX_ELEMENTS} numbers`, 'Give a part of it.')
    const bytes = readAt(descriptor, offset, needed)
    if (bytes.length !== needed) throw bad(path, 'changed while it was read', 'Try again.')
    const data = new VIEWS[dtype](bytes.buffer as ArrayBuffer, 0, count)
    return { dtype, dims, data } as NpyArray
  })
}
