/** @file Progress of a run, read from the names of the files in its work folder. */

import { existsSync, readdirSync } from 'node:fs'
import type { WorkFolder } from '../files/work-folder.ts'

export const padded = (index: number): string => String(index).padStart(3, '0')

/** Name of the record of a finished block. */
export const blockName = (index: number): string => `block-${padded(index)}`

/** Name of the record with the training state of an unfinished block. */
export const trainingName = (index: number): string => `training-${padded(index)}`

/** Number of blocks that earlier runs have finished. Blocks are finished in order. */
export function finishedBefore(work: Pick<WorkFolder, 'has'>, blocks: number): number {
  let done = 0
  while (done < blocks && work.has(blockName(done))) done++
  return done
}

/** True when the folder at `path` holds work that a later run can use, or cannot be read. Never throws. */
export function isWorthKeeping(path: string): boolean {
  try {
    return readdirSync(path).some(name => /^(block|training)-\d+\.record$/.test(name))
  } catch {
    return existsSync(path)
  }
}
