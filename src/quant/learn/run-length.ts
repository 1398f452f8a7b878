/** @file Length of a run over many samples: short enough for progress and memory, long enough that starting it costs nothing. */

import type { Device } from '../../kernels/device.ts'

/** Most seconds of a run, and most bytes of its inputs and outputs. */
interface Limits {
  readonly seconds: number
  readonly bytes: number
}

/** A GPU is given its data at the start of a run, and waits for the next one meanwhile. */
const LIMITS: { readonly cpu: Limits; readonly gpu: Limits } = {
  cpu: { seconds: 0.5, bytes: 64 * 2 ** 20 },
  gpu: { seconds: 3, bytes: 2e9 },
}

/** Numbers of samples of runs that follow each other. The first run has one sample; each later one is as long as the one before allows. */
export class RunLength {
  private readonly seconds: number
  private readonly most: number
  private length = 1

  /** @param bytes of the inputs and outputs of one sample. */
  constructor(device: Device | undefined, bytes: number) {
    const limits = LIMITS[(device ?? 'cpu') === 'cpu' ? 'cpu' : 'gpu']
    this.seconds = limits.seconds
    this.most = Math.max(1, Math.floor(limits.bytes / bytes))
  }

  /** Samples of the next run, when `left` are left. */
  next(left: number): number {
    return Math.min(this.length, left)
  }

  /** Takes in the time of a run. */
  took(samples: number, milliseconds: number): void {
    const wanted = Math.round((samples * this.seconds * 1000) / milliseconds)
    this.length = Math.max(1, Math.min(this.most, wanted))
  }
}
