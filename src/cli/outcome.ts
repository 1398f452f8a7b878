/** @file Endings of commands: documents, error lines, exit codes. Prints nothing itself. */

import { internalError, isFileLimitError, isMemoryError, memoryError, messageOf, QuantError } from '../errors.ts'
import { flagName } from './flags.ts'

/** The result of a command, for programs and for people; `failure` when there is one although the command failed. */
export interface Outcome {
  readonly document: object
  /** Undefined for a text that is on stdout already. */
  readonly text: string | undefined
  readonly failure?: QuantError
}

/** Texts for the two streams, and the exit code. */
export interface Ending {
  readonly stdout: string
  readonly stderr: string
  readonly exitCode: number
}

/** Codes other than 1. 130 is what shells report for a process ended by SIGINT (128 + 2). */
const EXIT_CODES: Partial<Record<QuantError['code'], number>> = { E_USAGE: 2, E_SCHEME: 2, E_INTERRUPTED: 130 }

interface Manner {
  readonly json: boolean
  readonly quiet: boolean
}

const document = (value: object): string => `${JSON.stringify(value, null, 2)}\n`

const errorObject = (error: QuantError): object => ({ error: { code: error.code, ...error.words(flagName) } })

/** Everything thrown on purpose is a QuantError; the rest is a mistake of ours. */
function asQuantError(error: unknown): QuantError {
  if (error instanceof QuantError) return error
  const message = messageOf(error)
  if (isMemoryError(message)) return memoryError('the engine worked', error)
  if (isFileLimitError(message)) {
    return new QuantError(
      'E_ENGINE',
      `there are too many open files: ${message}`,
      'Allow more with `ulimit -n 1024`, or end other programs.',
    )
  }
  return internalError(`unexpected: ${message}`)
}

/** One message; the stack only for those who ask, with OMNIQUANT_DEBUG=1. */
function errorLines(error: unknown, debug: boolean): string {
  const { message, hint } = asQuantError(error).words(flagName)
  const stack = debug && error instanceof Error ? [error.stack ?? ''] : []
  return [`error: ${message}`, ...(hint === undefined ? [] : [`hint: ${hint}`]), ...stack].join('\n') + '\n'
}

export function endingOf(outcome: Outcome, { json, quiet }: Manner, debug: boolean): Ending {
  const { failure, text } = outcome
  const stdout = json
    ? document({ ...outcome.document, ...(failure && errorObject(failure)) })
    : quiet || text === undefined
      ? ''
      : `${text}\n`
  if (!failure) return { stdout, stderr: '', exitCode: 0 }
  return { stdout, stderr: errorLines(failure, debug), exitCode: EXIT_CODES[failure.code] ?? 1 }
}

export function failureOf(error: unknown, { json }: { readonly json: boolean }, debug: boolean): Ending {
  const known = asQuantError(error)
  return {
    stdout: json ? document(errorObject(known)) : '',
    stderr: errorLines(error, debug),
    exitCode: EXIT_CODES[known.code] ?? 1,
  }
}
