/** @file The end of a run from outside: what it leaves on the disk, and the error that says so. */

import { QuantError } from '../errors.ts'
import { recoverSet } from '../files/file-set.ts'
import { WorkFolder } from '../files/work-folder.ts'
import { option } from '../option-mark.ts'
import { isWorthKeeping } from '../quant/resume.ts'
import type { Traces } from '../quant/terms/report.ts'

export const GO_ON: string = `Run the same command again to go on from there, or with ${option('fresh', true)} to start over.`

/**
 * Removes leftovers that are of no use to a later run, unless another run works on the output by now. It never throws.
 * @returns true when something is left for a later run.
 */
export async function clearAway({ work: place, output }: Traces): Promise<boolean> {
  const work = await WorkFolder.adopt(place)
  if (!work) return isWorthKeeping(place.path)
  recoverSet(output)
  const kept = isWorthKeeping(place.path)
  if (kept) work.release()
  else work.remove()
  return kept
}

/** @param kept true when finished blocks are on the disk. @param saved path of an output that is complete. */
export function interrupted(kept: boolean, saved?: string): QuantError {
  if (saved !== undefined)
    return new QuantError('E_INTERRUPTED', `interrupted while the result was measured: ${saved} is complete`)
  return kept
    ? new QuantError('E_INTERRUPTED', 'interrupted: what was finished is kept', GO_ON)
    : new QuantError('E_INTERRUPTED', 'interrupted: nothing was written')
}
