/**
 * @file Histogram of activations, from which the start of their fixed range is chosen. Its memory is bounded, no range has to be known
 * before, and the order of the numbers does not matter.
 */

/** Bits of a float32 that a bin does not look at. */
const IGNORED_BITS = 16

const BINS = 2 ** (32 - IGNORED_BITS)

/** A bin with numbers in it: `count` numbers from `low` to `high`. */
export interface Bin {
  readonly low: number
  readonly high: number
  readonly count: number
}

/** Float32 number with these upper bits. */
function numberOf(upper: number): number {
  const bits = new Uint32Array([upper << IGNORED_BITS])
  return new Float32Array(bits.buffer)[0]!
}

/**
 * Counts of numbers by the upper 16 bits of their float32: sign, exponent and 7 bits of the mantissa (those of bfloat16). A bin is
 * 2^-7 of its numbers wide at most, in the bulk and among outliers alike.
 */
export class ActivationHistogram {
  private readonly counts = new Float64Array(BINS)
  private least = Infinity
  private greatest = -Infinity
  private total = 0

  add(values: Float32Array): void {
    const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
    let { least, greatest } = this
    for (let i = 0; i < values.length; i++) {
      const value = values[i]!
      if (value < least) least = value
      if (value > greatest) greatest = value
      this.counts[bits[i]! >>> IGNORED_BITS]!++
    }
    this.least = least
    this.greatest = greatest
    this.total += values.length
  }

  /** Number of numbers that were added. */
  get size(): number {
    return this.total
  }

  /** Least number; Infinity for none. */
  get min(): number {
    return this.least
  }

  /** Greatest number; -Infinity for none. */
  get max(): number {
    return this.greatest
  }

  /** Bins with numbers in them, from the least to the greatest, cut to `min` and `max`. Both zeros are in bins of positive numbers. */
  bins(): Bin[] {
    const half = BINS / 2
    const bins: Bin[] = []
    const push = (index: number) => {
      const count = this.counts[index]!
      if (count === 0) return
      const ends = [numberOf(index), numberOf(index + 1)] as const
      const [low, high] = index < half ? ends : [ends[1], ends[0]]
      bins.push({ low: Math.max(low, this.least), high: Math.min(high, this.greatest), count })
    }
    for (let index = BINS - 1; index >= half; index--) push(index)
    for (let index = 0; index < half; index++) push(index)
    return bins
  }
}
