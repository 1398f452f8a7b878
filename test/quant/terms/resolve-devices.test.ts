/** @file Devices of a run as they are given and as they are used. */

import { expect, test } from 'vitest'
import { resolveOptions } from '../../../src/quant/terms/resolve-options.ts'
import type { QuantizeOptions } from '../../../src/quant/terms/options.ts'

const session = (given: Partial<QuantizeOptions>) =>
  resolveOptions({ model: 'm.onnx', scheme: 'w4a16', threads: 1, ...given }).session

test('the first of several devices is that of the session; one device is no list', () => {
  expect(session({ devices: ['cuda', 'cuda:1'] })).toMatchObject({ device: 'cuda:0', devices: ['cuda:0', 'cuda:1'] })
  expect(session({ devices: ['cuda:1'] })).toEqual({ threads: 1, device: 'cuda:1' })
  expect(session({ devices: [] }).device).toBe(session({}).device)
  expect(session({ device: 'cuda', devices: ['cuda:0', 'cpu'] }).device).toBe('cuda:0')
})

test('a device that is not the first of the devices is refused', () => {
  expect(() => session({ device: 'cpu', devices: ['cuda:0', 'cuda:1'] })).toThrow(
    expect.objectContaining({
      code: 'E_USAGE',
      message: '`device: cpu` is not the first of `devices`',
      option: 'device',
    }) as Error,
  )
})
