/** @file Plan of a run, told before its first block. */

import { basename } from 'node:path'
import { availableParallelism } from 'node:os'
import type { Analysis } from './find/analysis.ts'
import type { Foretold } from './foretell.ts'
import { calibrates, learns } from './learn/learnables.ts'
import type { ResolvedOptions } from './terms/options.ts'
import type { RunPlan } from './terms/report.ts'
import { ROUNDINGS } from './terms/roundings.ts'
import { schemeName } from './terms/scheme.ts'

/** Things that a run learns, in words. */
export function learnedThings(options: ResolvedOptions): string[] {
  const { lwc, rounding, let: transformations, learnRanges, scheme } = options
  if (!learns(options)) return []
  return [
    ...(lwc ? ['clipping'] : []),
    ...(ROUNDINGS[rounding].codes === 'learned' ? ['rounding'] : []),
    ...(transformations === false ? [] : ['transformations']),
    ...(transformations === 'affine' ? ['matrices'] : []),
    ...(learnRanges && scheme.activations ? ['ranges of activations'] : []),
  ]
}

/** Threads of a session. */
export const threadsOf = ({ session }: Pick<ResolvedOptions, 'session'>): number =>
  session.threads ?? availableParallelism()

/** @param paths of the output and of the work folder. @param size bytes of the model. */
export function planOfRun(
  { model, blocks, seqLen }: Analysis,
  options: ResolvedOptions,
  { sizeAfter, storage }: Foretold,
  { output, workDir }: { readonly output: string; readonly workDir: string },
  size: number,
  notes: readonly string[],
): RunPlan {
  const { scheme, target, calib, samples, epochs } = options
  return {
    model: model.path!,
    sizeBefore: size,
    blocks: blocks.length,
    linears: blocks.reduce((sum, { linears }) => sum + linears.length, 0),
    scheme: schemeName(scheme),
    target,
    output,
    sizeAfter,
    storage,
    ...(calibrates(options) && {
      calibration: { ...(calib !== undefined && { file: basename(calib) }), samples, seqLen },
    }),
    learned: learnedThings(options),
    epochs,
    threads: threadsOf(options),
    workDir,
    notes,
  }
}
