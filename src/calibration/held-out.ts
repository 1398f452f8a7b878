/** @file Windows of a text that no calibration sample touches: to measure on what nothing was learned from. Knows no files. */

/** Tokens that two windows have in common, one after the other, to count as the same place of a text. */
const SAME_RUN = 16

/** Number of windows that are kept from a text of the user. */
export const HELD_OUT_WINDOWS = 8

/** Number of windows that a model writes for it: each costs as much as a sample. */
export const heldOutOf = (samples: number): number => Math.min(4, Math.ceil(samples / 32))

/** `count` of `all`, evenly spread. */
function spread<T>(all: readonly T[], count: number): T[] {
  if (all.length <= count) return [...all]
  return Array.from({ length: count }, (_, i) => all[Math.floor((i * all.length) / count)]!)
}

/** The windows one after the other; undefined for none. */
function joined(windows: readonly BigInt64Array[]): BigInt64Array | undefined {
  if (windows.length === 0) return undefined
  const seqLen = windows[0]!.length
  const all = new BigInt64Array(windows.length * seqLen)
  windows.forEach((window, i) => all.set(window, i * seqLen))
  return all
}

/**
 * Windows between the samples of a stream.
 * @param starts of the samples, each `seqLen` tokens long.
 * @returns at most `count` windows [windows, seqLen], row after row; undefined where no gap holds one.
 */
export function betweenSamples(
  tokens: BigInt64Array,
  starts: readonly number[],
  seqLen: number,
  count: number = HELD_OUT_WINDOWS,
): BigInt64Array | undefined {
  const free: number[] = []
  let at = 0
  for (const start of [...starts].sort((a, b) => a - b).concat(tokens.length)) {
    for (; at + seqLen <= start; at += seqLen) free.push(at)
    at = Math.max(at, start + seqLen)
  }
  return joined(spread(free, count).map(start => tokens.subarray(start, start + seqLen)))
}

/** Rows behind the samples, as `betweenSamples`. @param width tokens of a row in `tokens`. */
export function behindSamples(
  tokens: BigInt64Array,
  width: number,
  samples: number,
  seqLen: number,
): BigInt64Array | undefined {
  const rows = Math.min(HELD_OUT_WINDOWS, Math.floor(tokens.length / width) - samples)
  if (rows <= 0) return undefined
  const first = (i: number) => (samples + i) * width
  return joined(Array.from({ length: rows }, (_, i) => tokens.subarray(first(i), first(i) + seqLen)))
}

/** True when the first tokens of `a` occur in `b`. */
function beginsIn(a: BigInt64Array, b: BigInt64Array): boolean {
  const run = a.subarray(0, SAME_RUN)
  for (let i = 0; i + run.length <= b.length; i++) if (run.every((token, j) => b[i + j] === token)) return true
  return false
}

/**
 * Last rows of `rows` [samples + more, seqLen], without those that overlap a sample, as `betweenSamples`: for places of a text that were
 * drawn by chance.
 */
export function apartFromSamples(rows: BigInt64Array, samples: number, seqLen: number): BigInt64Array | undefined {
  const row = (i: number) => rows.subarray(i * seqLen, (i + 1) * seqLen)
  const chosen = Array.from({ length: samples }, (_, i) => row(i))
  const more = Array.from({ length: rows.length / seqLen - samples }, (_, i) => row(samples + i))
  return joined(more.filter(window => !chosen.some(sample => beginsIn(window, sample) || beginsIn(sample, window))))
}
