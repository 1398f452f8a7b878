/** @file Every error a user can meet: a code, what went wrong and where, and the way out. Knows no model and no file. */

import { printable } from './printable.ts'

/** Stable names of the errors; tests and scripts match on these, never on the wording. */
export type ErrorCode =
  | 'E_FILE_NOT_FOUND'
  | 'E_NOT_ONNX'
  | 'E_TRUNCATED'
  | 'E_EXTERNAL_DATA'
  | 'E_UNSUPPORTED'
  | 'E_ALREADY_QUANTIZED'
  | 'E_NO_BLOCKS'
  | 'E_INPUTS'
  | 'E_TOKENIZER'
  | 'E_CALIBRATION'
  | 'E_PARAMETERS'
  | 'E_SEQ_LEN'
  | 'E_SCHEME'
  | 'E_USAGE'
  | 'E_OUTPUT'
  | 'E_RESUME'
  | 'E_SOURCE_CHANGED'
  | 'E_ENGINE'
  | 'E_RUNTIME'
  | 'E_DIVERGED'
  | 'E_TOO_LARGE'
  | 'E_MEMORY'
  | 'E_LIMIT'
  | 'E_INTERRUPTED'
  | 'E_INTERNAL'

/** Characters; the longest of ours, lists of inputs, have about 2000. */
const MAX_MESSAGE = 8000

/**
 * An error whose message is meant for the user's eyes: `message` says what and where (with what was found),
 * `hint` what to do about it.
 */
export class QuantError extends Error {
  readonly code: ErrorCode
  readonly hint: string | undefined

  constructor(code: ErrorCode, message: string, hint?: string, options?: { cause?: unknown }) {
    super(presentable(message), options)
    this.name = 'QuantError'
    this.code = code
    this.hint = hint === undefined ? undefined : presentable(hint)
  }
}

/** Messages quote names from files: what would steer a terminal is written as an escape, and what would flood it is cut. */
function presentable(text: string): string {
  return printable(text.length > MAX_MESSAGE ? `${text.slice(0, MAX_MESSAGE)}...` : text)
}

/** For states that only a mistake of ours can produce. */
export function internalError(message: string): QuantError {
  return new QuantError(
    'E_INTERNAL',
    message,
    'This is a mistake in omniquant itself: please report it with the command you ran.',
  )
}

/** A value of a JSON file, for messages: what is nested deeper than the stack cannot be shown. */
export function shown(value: unknown): string {
  try {
    return String(JSON.stringify(value))
  } catch {
    return 'something nested too deep to show'
  }
}

/** Whether a message is what onnxruntime, the C++ library or JavaScript say when there is no more memory. */
export const isMemoryError = (message: string): boolean =>
  /bad_alloc|Failed to allocate memory|Array buffer allocation failed/.test(message)

/** Whether a message is what the system says when a process, or all of them, have too many files open. */
export const isFileLimitError = (message: string): boolean => /\b(EMFILE|ENFILE)\b/.test(message)

/** @param what was being done, as in "memory ran out while ...". */
export function memoryError(what: string, cause?: unknown): QuantError {
  return new QuantError(
    'E_MEMORY',
    `memory ran out while ${what}`,
    'A shorter --seq-len or fewer --threads need less. Finished blocks are kept: the same command goes on from there.',
    { cause },
  )
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
