/** @file Devices that run programs, and what onnxruntime calls them. */

/** Device that runs programs. A CUDA device has the number that the driver gives it. */
export type Device = 'cpu' | 'webgpu' | `cuda:${number}`

/** Device as users say it: "cuda" is the first one, "auto" takes what works here. */
export type DeviceChoice = 'auto' | 'cuda' | Device

const CUDA = /^cuda(?::(0|[1-9]\d?))?$/

/** True for the texts that name a device or leave the choice. */
export function isDeviceChoice(value: unknown): value is DeviceChoice {
  return typeof value === 'string' && (['auto', 'cpu', 'webgpu'].includes(value) || CUDA.test(value))
}

/** Kind of a device: all of a kind have the same kernels. */
export type DeviceKind = 'cpu' | 'webgpu' | 'cuda'

export const kindOf = (device: Device): DeviceKind => (device === 'cpu' || device === 'webgpu' ? device : 'cuda')

/** The device that is meant; the CPU where nothing was chosen. */
export function deviceOf(choice: DeviceChoice = 'auto'): Device {
  if (choice === 'auto') return 'cpu'
  return choice === 'cuda' ? 'cuda:0' : choice
}

/** Execution provider of onnxruntime for a device. */
export function providerOf(device: Device): string | { readonly name: 'cuda'; readonly deviceId: number } {
  const number = CUDA.exec(device)?.[1]
  return number === undefined ? device : { name: 'cuda', deviceId: Number(number) }
}
