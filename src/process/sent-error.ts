/** @file Errors that travel between processes, as plain data: classes do not. */

import { type ErrorCode, QuantError } from '../errors.ts'

export interface SentError {
  readonly name: string
  /** Text, with marks of options if it is a QuantError's. */
  readonly message: string
  readonly stack: string | undefined
  /** The rest is of a QuantError only. */
  readonly code?: ErrorCode | undefined
  readonly hint?: string | undefined
  readonly option?: string | undefined
}

export function sentError(error: unknown): SentError {
  if (!(error instanceof Error)) return { name: 'Error', message: String(error), stack: undefined }
  const { name, message, stack } = error
  if (!(error instanceof QuantError)) return { name, message, stack }
  return { name, stack, code: error.code, option: error.option, ...error.words() }
}

export function receivedError({ name, message, stack, code, hint, option }: SentError): Error {
  const error = code === undefined ? new Error(message) : new QuantError(code, message, hint, { option })
  return Object.assign(error, { name, ...(stack !== undefined && { stack }) })
}
