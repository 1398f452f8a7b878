/** @file Runs lm_head and embeddings after the blocks, and keeps each on disk when it is finished. */

import type { ActivationStore } from '../calibration/activation-store.ts'
import type { WorkFolder } from '../files/work-folder.ts'
import type { Analysis } from './find/analysis.ts'
import { type FinishedOuter, isLearned, type LearnedOuter, learnOuter } from './learn/learn-outer.ts'
import type { Replay } from './learn/replay.ts'
import type { EmbeddingJob } from './plan/plan-embeddings.ts'
import { padded } from './resume.ts'
import type { Run } from './terms/options.ts'

const outerName = (index: number): string => `outer-${padded(index)}`

const ROUNDED: LearnedOuter = { learning: {} }

/** True when a weight still has to be learned, for which the hidden states after the last block are needed. */
export const needsStates = (options: Run, jobs: readonly EmbeddingJob[], work: WorkFolder): boolean =>
  jobs.some((job, i) => isLearned(job, options) && !work.has(outerName(i)))

/** Learns the weights of `jobs` that are worth it and not finished yet. @throws what `learnOuter` throws. */
export async function learnOuters(
  options: Run,
  analysis: Analysis,
  jobs: readonly EmbeddingJob[],
  work: WorkFolder,
  states: ActivationStore | undefined,
): Promise<FinishedOuter[]> {
  const finished: FinishedOuter[] = []
  for (const [i, job] of jobs.entries()) {
    if (!isLearned(job, options)) {
      finished.push({ ...job, ...ROUNDED })
      continue
    }
    const name = outerName(i)
    if (!work.has(name)) work.write(name, await learnOuter(job, { method: options, analysis, states: states! }))
    finished.push({ ...job, ...(work.read(name) as LearnedOuter) })
  }
  return finished
}

/** The same with parameters from a file; without any, rounded to nearest. */
export const replayOuters = (jobs: readonly EmbeddingJob[], replay: Replay | undefined): FinishedOuter[] =>
  jobs.map(job => ({ ...job, ...ROUNDED, clip: replay?.outer(job) }))
