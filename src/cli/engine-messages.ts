/** @file What the process that works says to the one that the user talks to. Knows neither. */

import { type ErrorCode, QuantError } from '../errors.ts'
import type { Traces } from '../quant/terms/report.ts'
import type { Outcome } from './outcome.ts'

/** An error as plain data: classes do not travel. */
export interface SentError {
  readonly name: string
  readonly message: string
  readonly stack: string | undefined
  /** Of a QuantError. */
  readonly code?: ErrorCode | undefined
  readonly hint?: string | undefined
}

export type EngineMessage =
  /** What is being done now. */
  | { readonly type: 'say'; readonly text: string }
  /** Something to be remembered. */
  | { readonly type: 'line'; readonly text: string }
  | { readonly type: 'working'; readonly traces: Traces }
  | {
      readonly type: 'outcome'
      readonly outcome: Omit<Outcome, 'failure'> & { readonly failure: SentError | undefined }
    }
  | { readonly type: 'error'; readonly error: SentError }

export function sentError(error: unknown): SentError {
  if (!(error instanceof Error)) return { name: 'Error', message: String(error), stack: undefined }
  const { name, message, stack } = error
  return { name, message, stack, ...(error instanceof QuantError && { code: error.code, hint: error.hint }) }
}

export function receivedError({ name, message, stack, code, hint }: SentError): Error {
  const error = code === undefined ? new Error(message) : new QuantError(code, message, hint)
  return Object.assign(error, { name, ...(stack !== undefined && { stack }) })
}
