/** @file Tiles of a stored weight, and their addresses in the memory of the kernels. Reads and computes nothing. */

import { byteLength } from '../../graph/dtype.ts'
import type { Tensor } from '../../graph/tensor.ts'
import { type ClipRatios, groupsOf } from '../qparams.ts'

/** Columns that the kernels work on at once, and so the least number of columns. */
export const MIN_COLUMNS: number = 4

export interface StoredWeight {
  /** Name for error messages. */
  readonly name: string
  /** [K, N], or [N, K] when `transposed`; of any float type. */
  readonly tensor: Tensor
  readonly transposed: boolean
  /** Factors on the ranges of its groups, [G, N]; without them it is rounded to nearest over the whole ranges. */
  readonly clip?: ClipRatios | undefined
}

export const sizesOf = ({ tensor, transposed }: StoredWeight): { readonly K: number; readonly N: number } => {
  const [rows, cols] = tensor.dims as [number, number]
  return transposed ? { K: cols, N: rows } : { K: rows, N: cols }
}

/** Layout of the codes in the bytes that are returned. */
export interface CodesLayout {
  /** pack: 32 / bits codes down the rows side by side, low bits first, column by column; codes: a byte each. */
  readonly kernel: 'pack2' | 'pack4' | 'pack8' | 'codes'
  /** Groups are filled up with zeros to a multiple of so many rows. */
  readonly unit: number
  /** Added to codes. */
  readonly shift: number
  readonly sizeBytes: number
  /** Distance from one column to the next when packed; from one row to the next otherwise. */
  readonly strideBytes: number
  /** Offset in bytes of the code of row k, column n. */
  readonly at: (k: number, n: number) => number
}

/** Rows and columns of a weight [K, N], in whole groups. */
export interface Tile {
  readonly firstGroup: number
  readonly groups: number
  readonly firstColumn: number
  readonly columns: number
}

/** Tiles that lie in one piece in the file: some groups of rows, or some columns of a transposed weight. */
export function tilesOf(stored: StoredWeight, group: number, tileBytes: number): Tile[] {
  const { K, N } = sizesOf(stored)
  const { size, count } = groupsOf(K, group)
  const starts = (length: number, step: number) => Array.from({ length: Math.ceil(length / step) }, (_, i) => i * step)
  if (stored.transposed) {
    const columns = Math.min(N, Math.max(MIN_COLUMNS, Math.floor(tileBytes / (4 * K))))
    // The last tile is as wide as the others: some columns are done twice.
    const first = starts(N, columns).map(n => Math.min(n, N - columns))
    return first.map(firstColumn => ({ firstGroup: 0, groups: count, firstColumn, columns }))
  }
  const most = Math.max(1, Math.floor(tileBytes / (4 * size * N)))
  return starts(count, most).map(firstGroup => {
    return { firstGroup, groups: Math.min(most, count - firstGroup), firstColumn: 0, columns: N }
  })
}

/** Addresses in the memory of the kernels. */
export interface Addresses {
  readonly tile: number
  /** As the file has it; the tile itself where that is the same. */
  readonly raw: number
  /** The same as float32; the tile itself if nothing is transposed. */
  readonly wide: number
  /** Numbers of the tile's groups, [groups, columns]: least weight or scale, greatest weight or zero point. */
  readonly low: number
  readonly high: number
  readonly codes: number
  readonly sizeBytes: number
}

export function addressesOf(stored: StoredWeight, tile: Tile, groupSize: number, layout: CodesLayout): Addresses {
  let sizeBytes = 0
  const place = (length: number): number => {
    const address = sizeBytes
    // The kernels may look up to a vector beyond the end.
    sizeBytes += 16 * Math.ceil(length / 16) + 16
    return address
  }
  const { dtype } = stored.tensor
  const elements = tile.groups * groupSize * tile.columns
  const address = place(4 * (elements + layout.unit * tile.columns))
  const wide = stored.transposed ? place(4 * elements) : address
  const raw = dtype === 'float32' ? wide : place(byteLength(dtype, elements))
  const numbers = () => place(4 * tile.groups * tile.columns)
  return { tile: address, raw, wide, low: numbers(), high: numbers(), codes: place(layout.sizeBytes), sizeBytes }
}
