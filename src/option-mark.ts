/**
 * @file Names of options inside messages. A message does not know its reader: the library calls an option by its key, the command line by
 * its flag. Until then the option is a mark in the text. Knows no option.
 */

/** Noncharacters of Unicode, which are reserved for use inside a program. */
const [OPEN, CLOSE] = ['\u{FDD0}', '\u{FDD1}']

const MARK = new RegExp(`${OPEN}([^${CLOSE}=]*)(?:=([^${CLOSE}]*))?${CLOSE}`, 'g')

/** Name of an option, with its value where it was given one. */
export type OptionName = (key: string, value: string | undefined) => string

/** Mark of an option for messages and notes. @param key field of the library's options. @param value to name as well: "--samples 4". */
export function option(key: string, value?: string | number | boolean): string {
  return `${OPEN}${key}${value === undefined ? '' : `=${value}`}${CLOSE}`
}

/** Name of an option in the library: `samples`, or `samples: 4`. */
export const keyName: OptionName = (key, value) => `\`${key}${value === undefined ? '' : `: ${value}`}\``

/** The text with a name for every mark. */
export function nameOptions(text: string, nameOf: OptionName): string {
  return text.replace(MARK, (_, key: string, value: string | undefined) => nameOf(key, value))
}

/** Plain data with names for the marks in its texts. */
export function nameOptionsIn(value: unknown, nameOf: OptionName): unknown {
  if (typeof value === 'string') return nameOptions(value, nameOf)
  if (Array.isArray(value)) return value.map(each => nameOptionsIn(each, nameOf))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, nameOptionsIn(each, nameOf)]))
}
