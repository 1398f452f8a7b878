/**
 * @file Chooses clip ratios of a weight by search, group by group, in slices of columns. Squared errors of the outputs are a sum
 * over columns, so each column is searched by itself and only a slice of them is in memory.
 */

import { byteLength } from '../../graph/dtype.ts'
import type { Graph } from '../../graph/ir.ts'
import { readInto, type Tensor, tensorOf } from '../../graph/tensor.ts'
import { readFloats } from '../../kernels/float16.ts'
import { requireSound } from '../../kernels/magnitude.ts'
import { type ClipRatios, groupsOf, type WeightQuantizer } from '../../kernels/qparams.ts'
import { sizesOf, type StoredWeight } from '../../kernels/round/tile-layout.ts'
import { type Programs, withPrograms } from '../../kernels/programs.ts'
import type { Session, SessionOptions } from '../../kernels/session.ts'
import { transpose2d } from '../../kernels/transpose.ts'
import {
  clipProgram,
  type ClipShape,
  type ClipStep,
  objectiveProgram,
  roundingProgram,
  type Weighing,
} from './clip-programs.ts'

/** Floats of a slice of the weight. */
const SLICE_FLOATS = 2 ** 22

const MAX_COLUMNS = 2048

/** Passes over all groups. In the first, both ends of a range have one ratio. */
const PASSES = 3

/** Columns that are searched at once. */
export const sliceColumns = (K: number, N: number): number =>
  Math.min(N, MAX_COLUMNS, Math.max(1, Math.floor(SLICE_FLOATS / K)))

export interface ClipSearch {
  readonly session: SessionOptions
  /** Programs to share with searches of other weights; by default a search has its own. */
  readonly programs?: Programs | undefined
  /** Columns searched at once (default: `sliceColumns`). The result does not depend on it, but for the last bits of sums. */
  readonly columns?: number | undefined
  /** Passes over all groups (default: PASSES). */
  readonly passes?: number | undefined
  readonly onProgress?: ((done: number, total: number) => void) | undefined
}

export interface FoundClip {
  readonly clip: ClipRatios
  /** Mean over the columns of error^T gram error, rounded to nearest and with the ratios. */
  readonly roundedLoss: number
  readonly learnedLoss: number
  /** The same of the weight itself in place of its error. */
  readonly energy: number
}

/** Columns [first, first + n) of a stored weight, float32 [K, n]. @throws E_UNSUPPORTED when a number in them is NaN or infinite. */
function readColumns({ name, tensor, transposed }: StoredWeight, K: number, first: number, n: number): Float32Array {
  const { dtype } = tensor
  const [rows, width] = transposed ? [n, K] : [K, n]
  const bytes = new Uint8Array(byteLength(dtype, rows * width))
  if (transposed) readInto(tensor, byteLength(dtype, first * K), bytes)
  else {
    const N = tensor.dims[1]!
    const rowBytes = byteLength(dtype, n)
    for (let k = 0; k < K; k++)
      readInto(tensor, byteLength(dtype, k * N + first), bytes.subarray(k * rowBytes, (k + 1) * rowBytes))
  }
  const floats = readFloats({ dtype, dims: [rows, width], data: bytes })
  requireSound(floats, width, `the weight of ${name}`)
  return transposed ? transpose2d(floats, n, K) : floats
}

/** A square part of the Gram matrix on its diagonal. */
function squareOf(gram: Float32Array, K: number, first: number, rows: number): Float32Array {
  const part = new Float32Array(rows * rows)
  for (let i = 0; i < rows; i++) {
    const from = (first + i) * K + first
    part.set(gram.subarray(from, from + rows), i * rows)
  }
  return part
}

/** Programs of a search. */
class SearchPrograms {
  private readonly shape: Omit<ClipShape, 'rows'>
  private readonly quantizer: WeightQuantizer
  private readonly programs: Programs

  constructor(shape: Omit<ClipShape, 'rows'>, quantizer: WeightQuantizer, programs: Programs) {
    this.shape = shape
    this.quantizer = quantizer
    this.programs = programs
  }

  private session(step: string, make: () => Graph): Promise<Session> {
    return this.programs.get(JSON.stringify([step, this.shape, this.quantizer]), make)
  }

  /** Error of rounding to nearest, [K, n]. */
  async rounding(w: Float32Array): Promise<Float32Array> {
    const { shape, quantizer } = this
    const { K, n } = shape
    const session = await this.session('rounding', () => roundingProgram(K, n, quantizer))
    const { error } = await session.run({ w: tensorOf('float32', [K, n], w) })
    return readFloats(error!)
  }

  /** Objective of each column, [n]. @param weights of the weighing, whole. */
  async objective(error: Float32Array, weights: Readonly<Record<string, Tensor>>): Promise<Float32Array> {
    const { K, n, weighing } = this.shape
    const session = await this.session('objective', () => objectiveProgram(K, n, weighing))
    const { loss } = await session.run({ error: tensorOf('float32', [K, n], error), ...weights })
    return readFloats(loss!)
  }

  /** One step of `clipProgram`. */
  async clip(step: ClipStep, rows: number, feeds: Readonly<Record<string, Tensor>>) {
    const { shape, quantizer } = this
    const session = await this.session(`${step}${rows}`, () => clipProgram(step, { ...shape, rows }, quantizer))
    const { chosen, chosen_upper: upper, chosen_lower: lower } = await session.run(feeds)
    return { chosen: readFloats(chosen!), upper: readFloats(upper!), lower: readFloats(lower!) }
  }
}

/** Inputs of the programs that weigh errors. */
interface Weigher {
  /** For all channels. */
  readonly whole: Readonly<Record<string, Tensor>>
  /** For one group of `rows` rows, where the errors of all groups are `error`. */
  readonly ofGroup: (group: number, error: Float32Array) => Readonly<Record<string, Tensor>>
}

/** Inputs that weigh the errors of K channels in groups of `size` rows, `n` columns. */
function weigherOf({ by, numbers }: Weights, K: number, n: number, size: number): Weigher {
  const matrix = (rows: number, cols: number, values: Float32Array) => tensorOf('float32', [rows, cols], values)
  const rowsOf = (group: number) => Math.min(size, K - group * size)
  const weighers: Readonly<Record<Weighing, () => Weigher>> = {
    none: () => ({ whole: {}, ofGroup: () => ({}) }),
    channels: () => {
      const vector = (values: Float32Array) => ({ channels: tensorOf('float32', [values.length], values) })
      return {
        whole: vector(numbers),
        ofGroup: group => vector(numbers.subarray(group * size, group * size + rowsOf(group))),
      }
    },
    gram: () => {
      const squares = Array.from({ length: Math.ceil(K / size) }, (_, group) =>
        squareOf(numbers, K, group * size, rowsOf(group)),
      )
      return {
        whole: { gram: matrix(K, K, numbers) },
        ofGroup: (group, error) => {
          const [row, rows] = [group * size, rowsOf(group)]
          const part = (values: Float32Array, width: number) =>
            matrix(rows, width, values.subarray(row * width, (row + rows) * width))
          return {
            error: matrix(K, n, error),
            own: part(error, n),
            across: part(numbers, K),
            square: matrix(rows, rows, squares[group]!),
          }
        },
      }
    },
  }
  return weighers[by]()
}

/** Weights of errors. */
export interface Weights {
  readonly by: Weighing
  /** channels: mean of x^2 over the inputs x, [K]; gram: mean of x x^T, [K, K]; none: nothing. */
  readonly numbers: Float32Array
}

/** Errors of the weight itself count, all the same. */
export const UNWEIGHTED: Weights = { by: 'none', numbers: new Float32Array(0) }

/**
 * Clip ratios under which the products of inputs and weight differ least from those of the float weight: coordinate descent over the
 * groups of each column, with a grid of ratios for each group. A column that is not better for it keeps its whole ranges.
 * @throws E_UNSUPPORTED when a weight is no sound number; what `onProgress` throws.
 */
export async function searchClip(
  stored: StoredWeight,
  quantizer: WeightQuantizer,
  weights: Weights,
  search: ClipSearch,
): Promise<FoundClip> {
  if (search.programs) return searchWith(stored, quantizer, weights, search, search.programs)
  return withPrograms(search.session, programs => searchWith(stored, quantizer, weights, search, programs))
}

async function searchWith(
  stored: StoredWeight,
  quantizer: WeightQuantizer,
  weights: Weights,
  { columns, passes = PASSES, onProgress }: ClipSearch,
  compiled: Programs,
): Promise<FoundClip> {
  const { K, N } = sizesOf(stored)
  const { size, count } = groupsOf(K, quantizer.group)
  const n = Math.min(N, columns ?? sliceColumns(K, N))
  const rowsOf = (group: number) => Math.min(size, K - group * size)
  const weigher = weigherOf(weights, K, n, size)
  const clip: ClipRatios = { max: new Float32Array(count * N), min: new Float32Array(count * N) }
  const programs = new SearchPrograms({ K, n, weighing: weights.by }, quantizer, compiled)
  const slices = Math.ceil(N / n)
  const losses = { rounded: new Float32Array(N), learned: new Float32Array(N), energy: new Float32Array(N) }

  /** Searches columns [first, first + n). */
  const searchSlice = async (first: number, progress: (part: number) => void): Promise<void> => {
    const w = readColumns(stored, K, first, n)
    const error = await programs.rounding(w)
    const rounded = await programs.objective(error, weigher.whole)
    losses.energy.set(await programs.objective(w, weigher.whole), first)
    const upper = new Float32Array(count * n).fill(1)
    const lower = new Float32Array(count * n).fill(1)
    for (let pass = 0; pass < passes; pass++) {
      const step = pass === 0 || quantizer.symmetric ? 'both' : 'each'
      for (let group = 0; group < count; group++) {
        const row = group * size
        const rows = rowsOf(group)
        const ratiosOf = (ratios: Float32Array) => ratios.subarray(group * n, (group + 1) * n)
        const found = await programs.clip(step, rows, {
          ...weigher.ofGroup(group, error),
          w: tensorOf('float32', [rows, n], w.subarray(row * n, (row + rows) * n)),
          ...(step === 'each' && { lower: tensorOf('float32', [n], ratiosOf(lower)) }),
        })
        error.set(found.chosen, row * n)
        ratiosOf(upper).set(found.upper)
        ratiosOf(lower).set(found.lower)
        progress((pass * count + group + 1) / (passes * count))
      }
    }
    const learned = await programs.objective(error, weigher.whole)
    for (let column = 0; column < n; column++) {
      const isBetter = learned[column]! < rounded[column]!
      losses.rounded[first + column] = rounded[column]!
      losses.learned[first + column] = isBetter ? learned[column]! : rounded[column]!
      for (let group = 0; group < count; group++) {
        const [from, to] = [group * n + column, group * N + first + column]
        clip.max[to] = isBetter ? upper[from]! : 1
        clip.min[to] = isBetter ? lower[from]! : 1
      }
    }
  }

  for (let slice = 0; slice < slices; slice++) {
    // The last slice is as wide as the others: some columns are done twice.
    await searchSlice(Math.min(slice * n, N - n), part => onProgress?.(slice + part, slices))
  }
  const mean = (values: Float32Array) => values.reduce((sum, value) => sum + value, 0) / N
  return { clip, roundedLoss: mean(losses.rounded), learnedLoss: mean(losses.learned), energy: mean(losses.energy) }
}
