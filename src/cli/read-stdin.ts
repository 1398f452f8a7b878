/** @file Text from stdin. */

import { QuantError } from '../errors.ts'

/** Bytes of a prompt: far more than any model has positions for. */
const MAX_BYTES = 16 * 2 ** 20

/**
 * All text on stdin. A line end at its end is not part of it: `echo` writes one.
 * @param signal ends the reading. @throws E_INTERRUPTED when aborted; E_USAGE for text that is too long, or not UTF-8.
 */
export async function readStdin(signal: AbortSignal): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  const stop = () => process.stdin.destroy()
  signal.addEventListener('abort', stop)
  try {
    for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
      size += chunk.length
      if (size > MAX_BYTES) throw new QuantError('E_USAGE', 'the text on stdin is longer than 16 MB', 'Give a prompt.')
      chunks.push(chunk)
    }
  } catch (error) {
    if (!signal.aborted) throw error
  } finally {
    signal.removeEventListener('abort', stop)
  }
  if (signal.aborted) throw new QuantError('E_INTERRUPTED', 'interrupted: nothing was written')
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks)).replace(/\r?\n$/, '')
  } catch {
    throw new QuantError('E_USAGE', 'the text on stdin is not UTF-8', 'Convert it first.')
  }
}
