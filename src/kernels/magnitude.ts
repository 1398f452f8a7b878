/** @file Largest magnitude that numbers of a model may have. Knows no model. */

import { QuantError } from '../errors.ts'

/**
 * Greatest magnitude of weights, gains, biases and activations, about 1.2e18. Squares of larger numbers, summed over a row, leave
 * float32; those of sound models end below 1e5.
 */
export const MAX_MAGNITUDE: number = 2 ** 60

/** Index of the first number that is NaN, infinite or beyond `MAX_MAGNITUDE`; -1 when there is none. */
export function firstUnsound(values: Float32Array): number {
  for (let i = 0; i < values.length; i++) if (!(Math.abs(values[i]!) <= MAX_MAGNITUDE)) return i
  return -1
}

/** A float32 number in as many digits as it has. */
export const shownFloat = (value: number): string => String(Number(value.toPrecision(7)))

/** Reason why a number is refused. */
export const unsoundReason = (value: number): string =>
  Number.isFinite(value)
    ? `numbers beyond ${MAX_MAGNITUDE.toPrecision(2)} overflow when they are squared`
    : 'only finite numbers can be quantized'

/** "[2, 5]": where an element of an array of `dims` lies. */
export function placeOf(index: number, dims: readonly number[]): string {
  const place: number[] = []
  let rest = index
  for (const size of dims.toReversed()) {
    place.unshift(rest % size)
    rest = Math.floor(rest / size)
  }
  return `[${place.join(', ')}]`
}

/** The way out of a model with such numbers. */
export const DAMAGED: string =
  'The file is damaged, or the model was saved after its training diverged: export it again.'

/**
 * Refuses weights that are not numbers, or absurd ones: one of them would spoil its whole group.
 * @param w [.., N]. @param what names the weight. @throws E_UNSUPPORTED saying where.
 */
export function requireSound(w: Float32Array, N: number, what: string): void {
  const i = firstUnsound(w)
  if (i < 0) return
  const place = placeOf(i, [w.length / N, N])
  throw new QuantError(
    'E_UNSUPPORTED',
    `${what} holds ${shownFloat(w[i]!)} at ${place}: ${unsoundReason(w[i]!)}`,
    DAMAGED,
  )
}
