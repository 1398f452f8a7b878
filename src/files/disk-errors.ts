/** @file Words for errors of the file system: one way out for each code. Knows no files. */

import { option } from '../option-mark.ts'
import { type ErrorCode, messageOf, QuantError } from '../errors.ts'

const FULL = `The disk is full: free some space and run the same command again, or choose another disk with ${option('output')} or ${option('workDir')}.`

const FORBIDDEN = `You may not write there: choose another output folder with ${option('output')}, or another place for its work with ${option('workDir')}.`

const NO_FOLDER = 'Part of that path is a file: choose another output folder.'

const HINTS: Readonly<Record<string, string>> = {
  ENOSPC: FULL,
  EDQUOT: FULL,
  EFBIG: FULL,
  EACCES: FORBIDDEN,
  EPERM: FORBIDDEN,
  EROFS: FORBIDDEN,
  ENOTDIR: NO_FOLDER,
  EEXIST: NO_FOLDER,
  EISDIR: 'A folder has that name: choose another name with -o.',
  ENAMETOOLONG: 'That name is too long for the disk: choose a shorter one with -o.',
  EIO: `The disk fails: check it, and run the same command again or choose another one with ${option('output')} or ${option('workDir')}.`,
  EMFILE: 'Too many files are open: raise the limit (ulimit -n) and run the same command again.',
  ENFILE: 'Too many files are open on this machine: close some programs and run the same command again.',
}

/** Code that the operating system gave the error, such as "ENOSPC". */
export const systemCode = (error: unknown): string | undefined => (error as NodeJS.ErrnoException | undefined)?.code

/** Advice for an error of the file system. */
export const diskHint = (error: unknown, otherwise = 'Run the same command again.'): string =>
  HINTS[systemCode(error) ?? ''] ?? otherwise

/** An error of the file system in the user's words; one that has words already stays as it is. @param what as in "cannot write x". */
export function diskError(what: string, error: unknown, code: ErrorCode = 'E_OUTPUT'): QuantError {
  if (error instanceof QuantError) return error
  return new QuantError(code, `${what}: ${messageOf(error)}`, diskHint(error), { cause: error })
}
