/** @file Lines of .jsonl files -> texts or token ids. Knows no tokenizer and reads no file. */

import { messageOf, QuantError, shown } from '../errors.ts'

/** Between the texts of a .jsonl file, as GPTQ's and OmniQuant's loaders join the lines of WikiText. */
const TEXT_SEPARATOR = '\n\n'

const LINE_HINT =
  'A line is {"text": "..."}, a string, {"input_ids": [1, 2, ...]} or an array of ids; one kind per file.'

/** One line of a .jsonl file: a text, token ids, or the reason why it is neither. */
function parseLine(line: string): string | number[] | { readonly problem: string } {
  let json: unknown
  try {
    json = JSON.parse(line)
  } catch (error) {
    return { problem: `is not JSON (${messageOf(error)})` }
  }
  const object =
    typeof json === 'object' && json !== null && !Array.isArray(json) ? (json as Record<string, unknown>) : {}
  const value = object['text'] ?? object['input_ids'] ?? json
  if (typeof value === 'string') return value
  if (!Array.isArray(value)) return { problem: 'has neither text nor token ids' }
  const wrong = value.find(id => !Number.isSafeInteger(id) || id < 0)
  return wrong === undefined ? value : { problem: `has ${shown(wrong)} among its token ids` }
}

/**
 * The lines that are not empty: one text, those of the lines with a blank line between them, or rows of token ids.
 * @param path for messages. @param place words before the number of a line. @throws E_CALIBRATION naming the line.
 */
export function parseJsonl(path: string, lines: string, place: string = 'line'): string | number[][] {
  const texts: string[] = []
  const rows: number[][] = []
  lines.split('\n').forEach((line, i) => {
    if (line.trim() === '') return
    const parsed = parseLine(line)
    const fail = (what: string) => new QuantError('E_CALIBRATION', `${path}: ${place} ${i + 1} ${what}`, LINE_HINT)
    if (typeof parsed === 'string') texts.push(parsed)
    else if (Array.isArray(parsed)) rows.push(parsed)
    else throw fail(parsed.problem)
    if (texts.length > 0 && rows.length > 0) {
      throw fail(
        `has ${typeof parsed === 'string' ? 'text, earlier lines token ids' : 'token ids, earlier lines text'}`,
      )
    }
  })
  return rows.length > 0 ? rows : texts.join(TEXT_SEPARATOR)
}
