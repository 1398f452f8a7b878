/** @file Length of a run over many samples: short enough for progress and memory, long enough that starting it costs nothing. */

import { type Device, type DeviceKind, kindOf } from '../../kernels/device.ts'

/** Most seconds of a run, and most bytes of its inputs and outputs. */
interface Limits {
  readonly seconds: number
  readonly bytes: number
}

/**
 * Limits by kind of device. A GPU is given its data at the start of a run, and waits for the next one meanwhile. WebGPU binds 128 MiB as
 * one buffer, and few buffers to an operator (Vulkan software driver, mesa 25): x and y of a run stay below that each.
 */
const LIMITS: Readonly<Record<DeviceKind, Limits>> = {
  cpu: { seconds: 0.5, bytes: 64 * 2 ** 20 },
  cuda: { seconds: 3, bytes: 2e9 },
  webgpu: { seconds: 3, bytes: 256 * 2 ** 20 },
}

/** Samples for each of several devices in a run. Where runs are cut decides what such a run gives, so their length is not measured. */
export const SHARED_SAMPLES = 16

/**
 * Numbers of samples of runs that follow each other. The first run has one sample; each later one is as long as the one before allows.
 * Runs on several devices are as long as memory allows, up to `SHARED_SAMPLES` for each.
 */
export class RunLength {
  private readonly seconds: number
  private readonly most: number
  private readonly isFixed: boolean
  private length: number

  /** @param bytes of the inputs and outputs of one sample. @param devices that share a run. */
  constructor(device: Device | undefined, bytes: number, devices = 1) {
    const limits = LIMITS[kindOf(device ?? 'cpu')]
    this.seconds = limits.seconds
    this.most = Math.max(1, Math.floor(limits.bytes / bytes))
    this.isFixed = devices > 1
    this.length = this.isFixed ? devices * Math.min(SHARED_SAMPLES, this.most) : 1
  }

  /** Samples of the next run, when `left` are left. */
  next(left: number): number {
    return Math.min(this.length, left)
  }

  /** Takes in the time of a run. */
  took(samples: number, milliseconds: number): void {
    if (this.isFixed) return
    const wanted = Math.round((samples * this.seconds * 1000) / milliseconds)
    this.length = Math.max(1, Math.min(this.most, wanted))
  }
}
