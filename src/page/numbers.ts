/** @file Numbers as text on a page. */

/** Text for a number that is not there. */
export const NONE = '–'

/** A number in three significant digits, small and large ones with an exponent. */
export function figure(value: number | null | undefined): string {
  if (value === undefined || value === null || !Number.isFinite(value)) return NONE
  const size = Math.abs(value)
  if (size !== 0 && (size < 1e-5 || size >= 1e6)) {
    const [digits, exponent] = value.toExponential(2).split('e') as [string, string]
    return `${digits} × 10${superscript(Number(exponent))}`
  }
  return size >= 1000 ? Math.round(value).toLocaleString('en-US') : String(Number(value.toPrecision(3)))
}

const SUPERSCRIPTS = '⁰¹²³⁴⁵⁶⁷⁸⁹'

const superscript = (exponent: number): string =>
  String(exponent)
    .replace(/\d/g, digit => SUPERSCRIPTS[Number(digit)]!)
    .replace('-', '⁻')

/** A share as per cent, with three significant digits. */
export const percent = (share: number | undefined): string => (share === undefined ? NONE : `${figure(100 * share)} %`)

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'] as const

/** Bytes in decimal units. */
export function bytes(count: number | undefined): string {
  if (count === undefined) return NONE
  const unit = count < 1 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log10(count) / 3))
  return `${figure(count / 1000 ** unit)} ${UNITS[unit]!}`
}

/** "850 ms", "12.3 s", "4 min 5 s", "2 h 3 min". */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`
  if (ms < 60_000) return `${figure(ms / 1000)} s`
  const minutes = Math.floor(ms / 60_000)
  const rest = Math.round((ms % 60_000) / 1000)
  return minutes < 60 ? `${minutes} min ${rest} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

/** "1 block", "12 blocks". */
export const counted = (count: number, noun: string): string =>
  `${count.toLocaleString('en-US')} ${noun}${count === 1 ? '' : 's'}`
