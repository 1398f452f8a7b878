/** @file Resolves the options for the device of a run, or for several. */

import { usageError } from '../../errors.ts'
import { type Device, deviceOf, isDeviceChoice } from '../../kernels/device.ts'
import type { SessionOptions } from '../../kernels/session.ts'
import { option } from '../../option-mark.ts'
import { listOf, type Rule } from './check-options.ts'
import type { QuantizeOptions } from './options.ts'

/** Rule of the option `devices`. */
export const DEVICES: Rule = listOf(
  value => isDeviceChoice(value) && value !== 'auto',
  'devices: cpu, cuda, cuda:1 (or another number), webgpu',
)

/** @throws E_USAGE when both options are given and disagree. */
export function resolveDevices({
  device,
  devices = [],
}: QuantizeOptions): Pick<SessionOptions, 'devices'> & { readonly device: Device } {
  const [first, ...further] = devices.map(deviceOf)
  if (first === undefined) return { device: deviceOf(device) }
  if (device !== undefined && deviceOf(device) !== first)
    throw usageError(
      `${option('device', device)} is not the first of ${option('devices')}`,
      `Leave out ${option('device')}: the first of the devices does what is not shared.`,
      'device',
    )
  return { device: first, ...(further.length > 0 && { devices: [first, ...further] }) }
}
