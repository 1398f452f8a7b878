/** @file What the files in a work folder say of how far a run is. Knows names, not what is in the files. */

import { existsSync, readdirSync } from 'node:fs'
import type { WorkFolder } from '../files/work-folder.ts'

export const padded = (index: number): string => String(index).padStart(3, '0')

/** A block that is finished. */
export const blockName = (index: number): string => `block-${padded(index)}`

/** Where learning of a block that is not finished goes on. */
export const trainingName = (index: number): string => `training-${padded(index)}`

/** How many of the blocks earlier runs have finished: they are finished in order. */
export function finishedBefore(work: WorkFolder, blocks: number): number {
  let done = 0
  while (done < blocks && work.has(blockName(done))) done++
  return done
}

/** Whether the folder at `path` holds anything a later run would have to do again. It never throws: what cannot be read is kept. */
export function isWorthKeeping(path: string): boolean {
  try {
    return readdirSync(path).some(name => /^(block|training)-\d+\.record$/.test(name))
  } catch {
    return existsSync(path)
  }
}
