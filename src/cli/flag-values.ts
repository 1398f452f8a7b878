/** @file Texts of flags -> values of options. A text that is no such value stays a text: the check of the options refuses it. Knows no flag. */

import { usageError } from '../errors.ts'
import { parseWeightOverride, type PatternOverride } from '../quant/terms/scheme.ts'

/** "128" as a number. Other notations of whole numbers are not taken. */
export function wholeNumber(text: string): number | string {
  return /^\d+$/.test(text) && Number.isSafeInteger(Number(text)) ? Number(text) : text
}

/** "5e-3" as a number. */
export function number(text: string): number | string {
  return text.trim() === '' || Number.isNaN(Number(text)) ? text : Number(text)
}

/** Value of an option with an optional one that was typed without it: see `rewriteFlags`. */
export const ALL = 'all'

/** True for an option that was typed without its optional value. */
export const allOr = (text: string): string | true => text === ALL || text

/** "a,b" as a list. */
export const list = (text: string): string[] => text.split(',').map(part => part.trim())

const BYTES: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
}

/** "900MB", "1.5GB", "700MiB", "123456" in bytes. MB are 1000 kB, as file managers count. */
export function bytes(text: string): number | string {
  const match = /^(\d+(?:\.\d+)?) ?([kmg]?i?b)?$/i.exec(text)
  const unit = BYTES[(match?.[2] ?? '').toLowerCase()]
  return match && unit !== undefined ? Math.floor(Number(match[1]) * unit) : text
}

const SECONDS: Readonly<Record<string, number>> = { h: 3600, m: 60, s: 1 }

/** "2h", "90m", "1h30m", "45s" in milliseconds. @throws E_USAGE */
export function duration(text: string, flag: string): number {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)([hms])/g)]
  const seconds = parts.reduce((sum, [, count, unit]) => sum + Number(count) * SECONDS[unit!]!, 0)
  if (seconds > 0 && parts.map(([part]) => part).join('') === text) return seconds * 1000
  throw usageError(`${flag} takes a time such as 2h, 90m or 1h30m, not "${text}"`)
}

/** "down_proj:w8g64". @throws E_USAGE, E_SCHEME */
export function weightOverride(text: string, flag: string): PatternOverride {
  const colon = text.lastIndexOf(':')
  if (colon > 0) return { pattern: text.slice(0, colon), ...parseWeightOverride(text.slice(colon + 1)) }
  throw usageError(`${flag} takes PATTERN:wN, not "${text}"`, `For example ${flag} down_proj:w8, or *_proj:w8g64sym.`)
}

/** The one scheme of those that were given. @throws E_USAGE */
export function oneScheme(texts: readonly string[]): string {
  const named = [...new Set(texts.map(name => name.toLowerCase()))]
  if (named.length === 1) return named[0]!
  throw usageError(`${named.map(name => `--${name}`).join(' and ')} exclude each other`, 'Give one of them.')
}

/** Name of a page. @throws E_USAGE */
export function pageFile(text: string, flag: string): string {
  if (/[^/\\]\.html?$/i.test(text)) return text
  throw usageError(`${flag} writes a page, and "${text}" does not end in .html`, 'Give a file such as report.html.')
}
