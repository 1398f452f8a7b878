/** @file Values of flags: text -> number or name, or an error that says what the flag takes. Knows no flag. */

import { QuantError } from '../errors.ts'

export function usageError(message: string, hint?: string): QuantError {
  return new QuantError('E_USAGE', message, hint)
}

/** The number a flag was given; undefined when it was not given. @throws E_USAGE */
export function wholeNumber(flag: string, text: string | undefined, least: number): number | undefined {
  if (text === undefined) return undefined
  const value = /^\d+$/.test(text) ? Number(text) : NaN
  if (Number.isSafeInteger(value) && value >= least) return value
  throw usageError(`${flag} takes a whole number${least > 0 ? ` from ${least} up` : ''}, not "${text}"`)
}

/** Above 0; undefined when the flag was not given. @throws E_USAGE */
export function positiveNumber(flag: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const value = text.trim() === '' ? NaN : Number(text)
  if (Number.isFinite(value) && value > 0) return value
  throw usageError(`${flag} takes a number above 0, not "${text}"`)
}

const SECONDS: Readonly<Record<string, number>> = { h: 3600, m: 60, s: 1 }

/** "2h", "90m", "1h30m", "45s" in milliseconds; undefined when the flag was not given. @throws E_USAGE */
export function duration(flag: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)([hms])/g)]
  const seconds = parts.reduce((sum, [, count, unit]) => sum + Number(count) * SECONDS[unit!]!, 0)
  if (seconds > 0 && parts.map(([part]) => part).join('') === text) return seconds * 1000
  throw usageError(`${flag} takes a time such as 2h, 90m or 1h30m, not "${text}"`)
}

/** One of `names`; undefined when the flag was not given. @throws E_USAGE */
export function oneOf<Name extends string>(
  flag: string,
  text: string | undefined,
  names: readonly Name[],
): Name | undefined {
  const name = names.find(known => known === text)
  if (text === undefined || name !== undefined) return name
  throw usageError(`${flag} is ${names.slice(0, -1).join(', ')} or ${names.at(-1)}, not "${text}"`)
}

/** From 0 to 1; undefined when the flag was not given. @throws E_USAGE */
export function share(flag: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const value = text.trim() === '' ? NaN : Number(text)
  if (value >= 0 && value <= 1) return value
  throw usageError(`${flag} is between 0 and 1, not "${text}"`)
}
