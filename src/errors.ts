/** @file Every error a user can meet: a code, the fault and its place, and the way out. Knows no model and no file. */

import { keyName, nameOptions, option, type OptionName } from './option-mark.ts'
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
  | 'E_VOCABULARY'
  | 'E_CALIBRATION'
  | 'E_PARAMETERS'
  | 'E_SEQ_LEN'
  | 'E_SCHEME'
  | 'E_USAGE'
  | 'E_OUTPUT'
  | 'E_RESUME'
  | 'E_SOURCE_CHANGED'
  | 'E_ENGINE'
  | 'E_DEVICE'
  | 'E_DOWNLOAD'
  | 'E_RUNTIME'
  | 'E_TOO_LARGE'
  | 'E_MEMORY'
  | 'E_LIMIT'
  | 'E_INTERRUPTED'
  | 'E_INTERNAL'

/** Characters; the longest of ours, lists of inputs, have about 2000. */
const MAX_MESSAGE = 8000

/** Message and hint of an error, for a reader. */
export interface ErrorWords {
  readonly message: string
  readonly hint: string | undefined
}

/**
 * An error whose message is meant for the user's eyes: `message` says what is wrong and where (with what was found), `hint` what to do
 * about it. Both call options by their keys.
 */
export class QuantError extends Error {
  readonly code: ErrorCode
  readonly hint: string | undefined
  /** Key of the option that is wrong, such as "samples". */
  readonly option: string | undefined
  /** Message and hint with the marks of options, for readers who call options otherwise. */
  declare private readonly marked: ErrorWords

  /** @param message, hint texts that may hold marks of options (option-mark.ts). */
  constructor(
    code: ErrorCode,
    message: string,
    hint?: string,
    { cause, option: key }: { readonly cause?: unknown; readonly option?: string | undefined } = {},
  ) {
    super(presentable(message, keyName), cause === undefined ? {} : { cause })
    this.name = 'QuantError'
    this.code = code
    this.hint = hint === undefined ? undefined : presentable(hint, keyName)
    this.option = key
    // Not to be listed when an error is printed.
    Object.defineProperty(this, 'marked', { value: { message, hint }, enumerable: false })
  }

  /** Message and hint in the words of a reader. Without `nameOf`, options stay marks. */
  words(nameOf?: OptionName): ErrorWords {
    const { message, hint } = this.marked
    if (!nameOf) return this.marked
    return { message: presentable(message, nameOf), hint: hint === undefined ? undefined : presentable(hint, nameOf) }
  }
}

/** Messages quote names from files: what would steer a terminal is written as an escape, and what would flood it is cut. */
function presentable(marked: string, nameOf: OptionName): string {
  const text = nameOptions(marked, nameOf)
  return printable(text.length > MAX_MESSAGE ? `${text.slice(0, MAX_MESSAGE)}...` : text)
}

/** An error about how a function or a command was called. @param key of the option that is wrong. */
export function usageError(message: string, hint?: string, key?: string): QuantError {
  return new QuantError('E_USAGE', message, hint, { option: key })
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

/** True for messages of onnxruntime, the C++ library and JavaScript about memory that ran out. */
export const isMemoryError = (message: string): boolean =>
  /bad_alloc|Failed to allocate memory|Array buffer allocation failed/.test(message)

/** True for messages of the system about too many open files. */
export const isFileLimitError = (message: string): boolean => /\b(EMFILE|ENFILE)\b/.test(message)

/** @param what was being done, as in "memory ran out while ...". */
export function memoryError(what: string, cause?: unknown): QuantError {
  return new QuantError(
    'E_MEMORY',
    `memory ran out while ${what}`,
    `A shorter ${option('seqLen')} or fewer ${option('threads')} need less. Finished blocks are kept: the same command goes on from there.`,
    { cause },
  )
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
