/** @file The page of `--report`: checked before the run, written after it. */

import { existsSync, statSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { makeFolder } from '../files/folders.ts'
import type { EvaluateResult, QuantizeResult } from '../engine/messages.ts'
import { messageOf, QuantError } from '../errors.ts'
import { AtomicFile, writeAtomically } from '../files/atomic-file.ts'
import type { Outcome } from './outcome.ts'
import type { StatusLine } from './progress.ts'

/** The folder, or the nearest one above it that is there. */
const nearestFolder = (folder: string): string => (existsSync(folder) ? folder : nearestFolder(dirname(folder)))

const cannotWrite = (path: string, error: unknown): QuantError =>
  new QuantError(
    'E_OUTPUT',
    `the report cannot be written to ${path}: ${messageOf(error)}`,
    'Give another file with --report.',
    { cause: error },
  )

/** Tries to make the file, and leaves nothing. A folder that is not there yet may be one that the run makes. @throws E_OUTPUT */
function checkReportFile(path: string): void {
  const file = resolve(path)
  try {
    if (statSync(file, { throwIfNoEntry: false })?.isDirectory()) throw new Error('it is a folder')
    new AtomicFile(join(nearestFolder(dirname(file)), basename(file))).discard()
  } catch (error) {
    throw cannotWrite(path, error)
  }
}

/** An argument as a shell reads it. */
const quoted = (argument: string): string =>
  /^[\w@%+=:,./-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", `'\\''`)}'`

/** The command line of this process. */
const commandLine = (): string => ['omniquant', ...process.argv.slice(2)].map(quoted).join(' ')

/** Writes the page; the file that was there is replaced at once or not at all. @throws E_OUTPUT */
async function writeReport(path: string, report: QuantizeResult | EvaluateResult): Promise<void> {
  // The library of the plots is loaded by those who want a page.
  const { reportPage } = await import('../page/report-page.ts')
  const date = new Date().toISOString().slice(0, 16).replace('T', ' ') + ' UTC'
  const page = reportPage(report, { command: commandLine(), date })
  try {
    makeFolder(dirname(resolve(path)))
    writeAtomically(resolve(path), Buffer.from(page))
  } catch (error) {
    throw cannotWrite(path, error)
  }
}

/**
 * The outcome of a command, whose report is written as a page too where a file is given for it. The command has done its work when the
 * page cannot be written: that is told with the outcome.
 * @throws E_OUTPUT before the work, where the file cannot be made; what the work throws.
 */
export async function withReport(
  path: string | undefined,
  { note }: Pick<StatusLine, 'note'>,
  work: () => Promise<Outcome>,
): Promise<Outcome> {
  if (path === undefined) return work()
  checkReportFile(path)
  const outcome = await work()
  try {
    await writeReport(path, outcome.document as QuantizeResult | EvaluateResult)
  } catch (error) {
    if (!(error instanceof QuantError)) throw error
    return { ...outcome, failure: outcome.failure ?? error }
  }
  note(`report: ${path}`)
  return outcome
}
