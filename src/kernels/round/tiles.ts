/**
 * @file Quantizes a stored weight a tile at a time: only a tile of it is ever in memory, besides the codes. The numbers are those of
 * `quantizeWeight`, bit for bit. Knows no container; legend in qparams.ts.
 */

import { byteLength } from '../../graph/dtype.ts'
import { readInto, tensorOf } from '../../graph/tensor.ts'
import { FLOAT16_MAX, readFloats } from '../float16.ts'
import { MAX_MAGNITUDE, requireSound } from '../magnitude.ts'
import { affineQParams, type ClipRatios, groupsOf, qMax, type QParams, type WeightQuantizer } from '../qparams.ts'
import { roundKernels } from './loops.ts'
import {
  type Addresses,
  addressesOf,
  type CodesLayout,
  MIN_COLUMNS,
  sizesOf,
  type StoredWeight,
  type Tile,
  tilesOf,
} from './tile-layout.ts'
import type { WasmInstance } from './wasm.ts'

/** Target size of a tile in bytes, as float32: it stays in the cache from the first pass to the last. */
const TILE_BYTES: number = 2 ** 21

/** Columns the kernels are given at a time: the lines of the cache they write to stay in its first level. */
const STRIP = 64

/** Rows that are transposed at a time: one line of the cache holds a column of them. */
const TRANSPOSED_ROWS = 16

const PAGE_BYTES = 2 ** 16

/** Bytes that 32-bit addresses reach. */
const MAX_BYTES = 2 ** 32 - PAGE_BYTES

/** Memory of more than this is given back when a weight is done. */
const KEPT_BYTES = 2 ** 26

let idle: WasmInstance | undefined

/** Kernels with so much memory: those of the weight before, if it did not need much. */
function withMemory(sizeBytes: number): WasmInstance {
  const instance = idle ?? roundKernels()
  idle = undefined
  const missing = sizeBytes - instance.memory.buffer.byteLength
  if (missing > 0) instance.memory.grow(Math.ceil(missing / PAGE_BYTES))
  return instance
}

/** Types the kernels read; others are turned into float32 at once. @throws E_UNSUPPORTED for types that are not float. */
function readable(stored: StoredWeight): StoredWeight {
  const { dtype, dims } = stored.tensor
  if (dtype === 'float32' || dtype === 'float16' || dtype === 'bfloat16') return stored
  return { ...stored, tensor: tensorOf('float32', dims, readFloats(stored.tensor)) }
}

/** One weight on its way through the kernels' memory. */
class Rounder {
  private readonly stored: StoredWeight
  private readonly quantizer: WeightQuantizer
  private readonly layout: CodesLayout
  private readonly at: Addresses
  private readonly kernels: WasmInstance
  private readonly K: number
  private readonly N: number
  /** Rows of a group. */
  private readonly size: number

  constructor(stored: StoredWeight, quantizer: WeightQuantizer, layout: CodesLayout, at: Addresses) {
    const { K, N } = sizesOf(stored)
    this.stored = stored
    this.quantizer = quantizer
    this.layout = layout
    this.at = at
    this.K = K
    this.N = N
    this.size = groupsOf(K, quantizer.group).size
    this.kernels = withMemory(at.sizeBytes)
  }

  private run(kernel: string, ...parameters: number[]): number {
    return this.kernels.functions[kernel]!(...parameters)
  }

  private floats(address: number, length: number): Float32Array {
    return new Float32Array(this.kernels.memory.buffer, address, length)
  }

  /** Rows of the tile that the weight has. */
  private rowsOf({ firstGroup, groups }: Tile): number {
    return Math.min(groups * this.size, this.K - firstGroup * this.size)
  }

  /** Brings a tile into memory, [rows, columns], with zeros behind its last row. */
  load(tile: Tile): void {
    const { at, K, N } = this
    const { tensor, transposed } = this.stored
    const { columns } = tile
    const rows = this.rowsOf(tile)
    const first = transposed ? tile.firstColumn * K : tile.firstGroup * this.size * N
    const bytes = byteLength(tensor.dtype, rows * columns)
    readInto(tensor, byteLength(tensor.dtype, first), new Uint8Array(this.kernels.memory.buffer, at.raw, bytes))
    if (at.raw !== at.wide) this.run(tensor.dtype, at.raw, at.wide, rows * columns)
    if (transposed) {
      for (let n = 0; n < columns; n += TRANSPOSED_ROWS) {
        const some = Math.min(TRANSPOSED_ROWS, columns - n)
        this.run('transpose', at.wide + 4 * n * K, at.tile + 4 * n, some, K, 4 * columns)
      }
    }
    const filling = Math.ceil(rows / this.layout.unit) * this.layout.unit - rows
    this.floats(at.tile + 4 * rows * columns, filling * columns).fill(0)
  }

  /**
   * Calls `visit` for each strip of each group: its first row and column in the tile, its rows and columns, and its addresses in the
   * tile and, as a distance, among the numbers of groups.
   */
  private overStrips(
    tile: Tile,
    visit: (row: number, column: number, rows: number, width: number, w: number, number: number) => void,
  ): void {
    const { columns, groups } = tile
    for (let group = 0; group < groups; group++) {
      const row = group * this.size
      const rows = Math.min(this.size, this.rowsOf(tile) - row)
      for (let next = 0; next < columns; next += STRIP) {
        const column = Math.min(next, columns - MIN_COLUMNS)
        const width = Math.min(STRIP, columns - column)
        visit(row, column, rows, width, this.at.tile + 4 * (row * columns + column), 4 * (group * columns + column))
      }
    }
  }

  /** Scales and zero points of the tile's groups, [groups, columns]. */
  parameters(tile: Tile): QParams {
    const { at, stored } = this
    const [lo, hi] = [at.low, at.high].map(address => this.floats(address, tile.groups * tile.columns).fill(0)) as [
      Float32Array,
      Float32Array,
    ]
    let strange = 0
    this.overStrips(tile, (_row, _column, rows, width, w, number) => {
      strange |= this.run('extremes', w, 4 * tile.columns, rows, width, at.low + number, at.high + number)
    })
    // Widening makes numbers beyond float16's range of what is not finite there.
    const most = stored.tensor.dtype === 'float16' ? FLOAT16_MAX : MAX_MAGNITUDE
    const isBeyond = (x: number) => Math.abs(x) > most
    if (strange || lo.some(isBeyond) || hi.some(isBeyond)) {
      requireSound(readFloats(stored.tensor), stored.tensor.dims[1]!, `the weight of ${stored.name}`)
    }
    return affineQParams({ lo, hi }, this.quantizer, stored.clip && clipOf(stored.clip, tile, this.N))
  }

  /** Puts the tile's codes where the layout wants them. */
  write(tile: Tile, { scale, zeroPoint }: QParams): void {
    const { at } = this
    const { kernel, shift, unit, strideBytes, at: place } = this.layout
    const top = qMax(this.quantizer.bits) + shift
    this.floats(at.low, scale.length).set(scale)
    const zeros = this.floats(at.high, scale.length)
    for (let i = 0; i < zeros.length; i++) zeros[i] = zeroPoint[i]! + shift
    this.overStrips(tile, (row, column, rows, width, w, number) => {
      const filled = Math.ceil(rows / unit) * unit
      const to = at.codes + place(tile.firstGroup * this.size + row, tile.firstColumn + column)
      const [scales, zero] = [at.low + number, at.high + number]
      this.run(kernel, w, 4 * tile.columns, filled, width, scales, zero, shift, top, to, strideBytes)
    })
  }

  /** The codes, copied out of the memory, which the next weight may have. */
  finish(): Uint8Array {
    const { memory } = this.kernels
    const codes = new Uint8Array(memory.buffer, this.at.codes, this.layout.sizeBytes).slice()
    if (memory.buffer.byteLength <= KEPT_BYTES) idle = this.kernels
    return codes
  }
}

/** `values` of a tile, [groups, columns], into those of the weight, [G, N]. */
function place<T extends Float32Array | Uint8Array>(values: T, tile: Tile, into: T, N: number): void {
  const { firstGroup, groups, firstColumn, columns } = tile
  for (let group = 0; group < groups; group++) {
    into.set(values.subarray(group * columns, (group + 1) * columns), (firstGroup + group) * N + firstColumn)
  }
}

/** Clip ratios of a tile, [groups, columns], out of those of the weight. */
function clipOf({ min, max }: ClipRatios, { firstGroup, groups, firstColumn, columns }: Tile, N: number): ClipRatios {
  const taken = (ratios: Float32Array): Float32Array => {
    const part = new Float32Array(groups * columns)
    for (let group = 0; group < groups; group++) {
      const from = (firstGroup + group) * N + firstColumn
      part.set(ratios.subarray(from, from + columns), group * columns)
    }
    return part
  }
  return { min: taken(min), max: taken(max) }
}

export interface RoundedWeight extends QParams {
  /** As the layout says. */
  readonly codes: Uint8Array
}

/**
 * Codes, scales and zero points of a weight, over ranges that are clipped if it says so; undefined where the kernels cannot make them: of fewer than four
 * columns, or with more than 4 GB at a time. The result does not depend on `tileBytes`.
 * @throws E_UNSUPPORTED when a weight is no sound number or of no float type, E_SCHEME when the quantizer cannot be, E_EXTERNAL_DATA.
 */
export function roundTiles(
  weight: StoredWeight,
  quantizer: WeightQuantizer,
  layout: CodesLayout,
  tileBytes: number = TILE_BYTES,
): RoundedWeight | undefined {
  const { K, N } = sizesOf(weight)
  if (N < MIN_COLUMNS) return undefined
  const stored = readable(weight)
  const { size, count } = groupsOf(K, quantizer.group)
  const tiles = tilesOf(stored, quantizer.group, tileBytes)
  const at = addressesOf(stored, tiles[0]!, size, layout)
  if (at.sizeBytes > MAX_BYTES) return undefined
  const rounder = new Rounder(stored, quantizer, layout, at)
  const scale = new Float32Array(count * N)
  const zeroPoint = new Uint8Array(count * N)
  for (const tile of tiles) {
    rounder.load(tile)
    const parameters = rounder.parameters(tile)
    rounder.write(tile, parameters)
    place(parameters.scale, tile, scale, N)
    place(parameters.zeroPoint, tile, zeroPoint, N)
  }
  return { codes: rounder.finish(), scale, zeroPoint }
}
