/** @file Choice of the device of a run, made before it begins. */

import { QuantError } from '../errors.ts'
import { type Device, type DeviceChoice, deviceOf } from '../kernels/device.ts'
import type { Trial } from './try-device.ts'

/** Device of a run, and the reason for it. */
export interface ChosenDevice {
  readonly name: Device
  readonly why: string
  /** Further devices that share the learning. */
  readonly further?: readonly Device[]
}

/**
 * The device that is meant. "auto" takes CUDA where it works, else the CPU; never WebGPU, which may be software: onnxruntime does not
 * tell. The CPU is not tried.
 * @param trial tries a device.
 * @throws E_DEVICE when a device was named that does not work; the AbortSignal's reason when aborted.
 */
export async function chooseDevice(
  choice: DeviceChoice,
  trial: (device: Device) => Promise<Trial>,
): Promise<ChosenDevice> {
  if (choice === 'cpu') return { name: 'cpu', why: 'as asked for' }
  const device = choice === 'auto' ? 'cuda:0' : deviceOf(choice)
  const { failure, seconds } = await trial(device)
  if (!failure)
    return { name: device, why: `a small program ran there with the right numbers in ${seconds.toFixed(1)} s` }
  if (choice === 'auto') return { name: 'cpu', why: `no CUDA: ${failure.problem}` }
  throw new QuantError(
    'E_DEVICE',
    `${device} cannot be used here: ${failure.problem}`,
    `${failure.remedy.join(' ')} \`omniquant doctor\` tries all devices.`,
    { option: 'device' },
  )
}

/** Line for people. */
export const deviceLine = ({ name, why, further = [] }: ChosenDevice): string =>
  `device: ${[name, ...further].join(', ')} (${why})`
