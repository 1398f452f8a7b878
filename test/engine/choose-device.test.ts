/** @file Choice of a device from trials: never WebGPU by itself, and one error for a device that was named and does not work. */

import { expect, test } from 'vitest'
import { chooseDevice, deviceLine } from '../../src/engine/choose-device.ts'
import type { Trial } from '../../src/engine/try-device.ts'
import type { Device } from '../../src/kernels/device.ts'

const works = (device: Device): Promise<Trial> => Promise.resolve({ device, seconds: 2.1 })
const fails = (device: Device): Promise<Trial> =>
  Promise.resolve({ device, seconds: 1, failure: { problem: 'it is broken', remedy: ['Mend it.', 'Or buy one.'] } })

test('auto is CUDA where it works, else the CPU with the reason; WebGPU is never tried', async () => {
  const tried: Device[] = []
  const trial = (device: Device) => (tried.push(device), works(device))
  const chosen = await chooseDevice('auto', trial)
  expect(deviceLine(chosen)).toBe('device: cuda:0 (a small program ran there with the right numbers in 2.1 s)')
  expect(await chooseDevice('auto', fails)).toEqual({ name: 'cpu', why: 'no CUDA: it is broken' })
  expect(tried).toEqual(['cuda:0'])
})

test('the CPU is not tried', async () => {
  const trial = () => expect.unreachable('nothing has to be tried')
  expect(await chooseDevice('cpu', trial)).toEqual({ name: 'cpu', why: 'as asked for' })
})

test.each([
  ['cuda', 'cuda:0'],
  ['cuda:3', 'cuda:3'],
  ['webgpu', 'webgpu'],
] as const)('%s is tried, taken or refused', async (choice, device) => {
  expect((await chooseDevice(choice, works)).name).toBe(device)
  await expect(chooseDevice(choice, fails)).rejects.toMatchObject({
    code: 'E_DEVICE',
    option: 'device',
    message: `${device} cannot be used here: it is broken`,
    hint: 'Mend it. Or buy one. `omniquant doctor` tries all devices.',
  })
})
