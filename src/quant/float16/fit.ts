/** @file Does a float32 constant keep its meaning in float16? */

import { readInto, sizeBytes, type Tensor } from '../../graph/tensor.ts'
import { FLOAT16_MAX, FLOAT16_MIN_NORMAL } from '../../kernels/float16.ts'

/** `wide`: finite numbers that float16 makes infinite. `tiny`: all numbers lose digits or become 0. */
export type Fit = 'yes' | 'tiny' | 'wide'

const PIECE_BYTES = 2 ** 22

/** Fit of a float32 tensor; one on disk is read in pieces. */
export function fitOf(tensor: Tensor): Fit {
  const size = sizeBytes(tensor)
  const buffer = new Uint8Array(Math.min(size, PIECE_BYTES))
  let greatest = 0
  for (let done = 0; done < size; done += buffer.length) {
    const piece = buffer.subarray(0, Math.min(buffer.length, size - done))
    readInto(tensor, done, piece)
    for (const value of new Float32Array(piece.buffer, 0, piece.length / 4)) {
      const magnitude = Math.abs(value)
      if (magnitude > greatest && magnitude < Infinity) greatest = magnitude
    }
  }
  if (greatest > FLOAT16_MAX) return 'wide'
  return greatest > 0 && greatest < FLOAT16_MIN_NORMAL ? 'tiny' : 'yes'
}
