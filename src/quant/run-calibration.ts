/** @file Calibration tokens of a run: made once, and kept in the work folder. */

import { calibrate, type Calibration } from '../calibration/calibrate.ts'
import type { SourceWatch } from '../files/digest.ts'
import type { WorkFolder } from '../files/work-folder.ts'
import type { Analysis } from './find/analysis.ts'
import type { Run } from './terms/options.ts'

const CALIBRATION = 'calibration'

/** One of so many samples is kept aside by a run that chooses bits. */
const KEPT_SHARE = 16

/** Samples of a run. */
export interface RunCalibration {
  readonly learning: Calibration
  /** Samples that nothing is learned from, to measure the output on; none where the run does not choose bits. */
  readonly kept: Calibration
}

/** Samples that are kept aside. */
export const keptSamples = ({ choosing, samples }: Pick<Run, 'choosing' | 'samples'>): number =>
  choosing ? Math.max(1, Math.round(samples / KEPT_SHARE)) : 0

function part(all: Calibration, first: number, samples: number): Calibration {
  const { tokens, seqLen } = all
  return { ...all, tokens: tokens.subarray(first * seqLen, (first + samples) * seqLen), samples }
}

/** Tokens of the run. A resumed run has those it began with. @throws what `calibrate` throws; the reason of an abort. */
export async function calibrationOf(
  options: Run,
  analysis: Analysis,
  work: WorkFolder,
  inputs: SourceWatch,
): Promise<RunCalibration> {
  if (!work.has(CALIBRATION)) {
    const onProgress = (done: number, total: number) => {
      options.signal?.throwIfAborted()
      options.onEvent?.({ type: 'calibrating', done, total })
    }
    const calibration = await calibrate(analysis, { ...options, onProgress })
    inputs.check()
    work.write(CALIBRATION, calibration)
  }
  const all = work.read(CALIBRATION) as Calibration
  const learning = all.samples - keptSamples({ ...options, samples: all.samples })
  return { learning: part(all, 0, learning), kept: part(all, learning, all.samples - learning) }
}
