/** @file Messages for errors of the file system, with one hint for each code. Opens no files. */

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

/** Hint for an error of the file system. */
export const diskHint = (error: unknown, otherwise = 'Run the same command again.'): string =>
  HINTS[systemCode(error) ?? ''] ?? otherwise

/** Runs `action` and turns any plain error of the file system, also of calls that seldom fail (stat, close), into a QuantError. */
export async function inWords<T>(action: () => Promise<T>): Promise<T> {
  try {
    return await action()
  } catch (error) {
    if ((error as NodeJS.ErrnoException | undefined)?.syscall === undefined) throw error
    throw diskError('a file cannot be read or written', error)
  }
}

/** Turns an error of the file system into a QuantError; a QuantError stays as it is. @param what failed: "cannot write x". */
export function diskError(what: string, error: unknown, code: ErrorCode = 'E_OUTPUT'): QuantError {
  if (error instanceof QuantError) return error
  return new QuantError(code, `${what}: ${messageOf(error)}`, diskHint(error), { cause: error })
}
