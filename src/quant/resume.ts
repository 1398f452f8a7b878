/** @file Progress of a run, by the files in its work folder. Knows names, not what is in the files. */

import { existsSync, readdirSync } from 'node:fs'
import type { WorkFolder } from '../files/work-folder.ts'

export const padded = (index: number): string => String(index).padStart(3, '0')

/** A block that is finished. */
export const blockName = (index: number): string => `block-${padded(index)}`

/** Name of the checkpoint of a block that is being learned. */
export const trainingName = (index: number): string => `training-${padded(index)}`

/** Number of blocks that earlier runs have finished: they are finished in order. */
export function finishedBefore(work: WorkFolder, blocks: number): number {
  let done = 0
  while (done < blocks && work.has(blockName(done))) done++
  return done
}

/** True where the folder at `path` holds anything a later run would have to do again. It never throws: what cannot be read is kept. */
export function isWorthKeeping(path: string): boolean {
  try {
    return readdirSync(path).some(name => /^(block|training)-\d+\.record$/.test(name))
  } catch {
    return existsSync(path)
  }
}
