/** @file The door through which text leaves for stdout and stderr: nothing in it steers a terminal, and what is lost is told. */

import { fstatSync, writeFileSync } from 'node:fs'
import { messageOf, QuantError } from '../errors.ts'
import { systemCode } from '../files/disk-errors.ts'
import { printable } from '../printable.ts'

type Stream = typeof process.stdout | typeof process.stderr

/** Errors of the streams, such as a reader or a terminal that is gone, end nothing by themselves. */
export function keepStreamErrors(): void {
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})
}

/** @throws the system's error when not all of the text can be written. */
async function write(stream: Stream, text: string): Promise<void> {
  if (text === '') return
  // On a disk that fills up, a stream drops what does not fit and reports success.
  if (fstatSync(stream.fd).isFile()) return writeFileSync(stream.fd, text)
  await new Promise<void>((done, fail) => stream.write(text, error => (error ? fail(error) : done())))
}

/** Writes a result to stdout. A reader that has seen enough (`| head`) is no error. @throws E_OUTPUT when the result is lost otherwise. */
export async function printResult(text: string): Promise<void> {
  try {
    await write(process.stdout, printable(text))
  } catch (error) {
    if (systemCode(error) === 'EPIPE') return
    throw new QuantError(
      'E_OUTPUT',
      `the result cannot be written to stdout: ${messageOf(error)}`,
      'Only this text is lost: files that the command makes are written before it.',
    )
  }
}

/** Writes messages to stderr, where that can be done. */
export async function printMessages(text: string): Promise<void> {
  await write(process.stderr, printable(text)).catch(() => {})
}
