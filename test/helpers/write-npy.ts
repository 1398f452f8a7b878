/** @file Writes .npy files, version 1, for tests that read them. */

import { writeFileSync } from 'node:fs'
import type { NpyArray } from '../../src/files/npy.ts'

/** NumPy's names of the types, little-endian. */
const DESCRIPTORS: Record<NpyArray['dtype'], string> = {
  int64: '<i8',
  int32: '<i4',
  uint16: '<u2',
  uint8: '|u1',
  float32: '<f4',
}

export function writeNpy(path: string, { dtype, dims, data }: NpyArray): void {
  const shape = dims.length === 1 ? `${dims[0]},` : dims.join(', ')
  const dict = `{'descr': '${DESCRIPTORS[dtype]}', 'fortran_order': False, 'shape': (${shape}), }`
  // The numbers start at a multiple of 64 bytes, and the header ends with a newline.
  const padded = dict.padEnd(Math.ceil((10 + dict.length + 1) / 64) * 64 - 10 - 1) + '\n'
  const head = Buffer.from([0x93, ...Buffer.from('NUMPY'), 1, 0, 0, 0])
  head.writeUInt16LE(padded.length, 8)
  const body = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  writeFileSync(path, Buffer.concat([head, Buffer.from(padded, 'latin1'), body]))
}
