/** @file --overrides FILE.json: an object from patterns to the scheme of the weights they match. Reads a file; knows no model. */

import { messageOf, QuantError } from '../errors.ts'
import { readBounded } from '../files/bounded-file.ts'
import { parseWeightOverride, type PatternOverride } from '../quant/terms/scheme.ts'

/** A line for every weight of the largest models. */
const MAX_BYTES = 16 * 2 ** 20

/** Characters of a pattern; names as models have them are below 100, and `*` stands for the rest of longer ones. */
const MAX_PATTERN = 1024

const EXAMPLE = 'It should look like {"down_proj": "w8g64", "layers.0.*": "w8"}.'

/**
 * Overrides of a file such as {"down_proj": "w8g64", "layers.0.*": "w8"}, in its order (patterns that are whole numbers first, as
 * JavaScript reads objects); later ones win.
 * @throws E_FILE_NOT_FOUND; E_USAGE when it is something else or a pattern is too long; E_SCHEME for bits or groups that cannot be made.
 */
export function readOverrides(path: string): PatternOverride[] {
  let text: string
  try {
    text = Buffer.from(readBounded(path, MAX_BYTES)).toString('utf8')
  } catch (error) {
    throw new QuantError('E_FILE_NOT_FOUND', `cannot read the overrides in ${path}: ${messageOf(error)}`)
  }
  return Object.entries(parse(path, text)).map(([pattern, scheme]) => {
    if (pattern.length > MAX_PATTERN) {
      throw new QuantError(
        'E_USAGE',
        `${path}: the pattern "${pattern.slice(0, 40)}..." has ${pattern.length} characters, more than ${MAX_PATTERN}`,
        'Shorten it: * stands for any characters, and whole segments such as "down_proj" are enough.',
      )
    }
    if (typeof scheme !== 'string')
      throw new QuantError('E_USAGE', `${path}: what "${pattern}" is set to is not a text`, EXAMPLE)
    try {
      return { pattern, ...parseWeightOverride(scheme) }
    } catch (error) {
      if (!(error instanceof QuantError)) throw error
      const { message, hint } = error.words()
      throw new QuantError(error.code, `${path}: "${pattern}": ${message}`, hint)
    }
  })
}

function parse(path: string, text: string): object {
  let content: unknown
  try {
    content = JSON.parse(text)
  } catch (error) {
    throw new QuantError('E_USAGE', `${path} is not JSON: ${messageOf(error)}`, EXAMPLE)
  }
  if (typeof content === 'object' && content !== null && !Array.isArray(content)) return content
  throw new QuantError('E_USAGE', `${path} does not hold an object`, EXAMPLE)
}
