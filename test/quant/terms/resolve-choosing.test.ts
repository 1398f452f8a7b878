/** @file Options of runs that choose bits: candidates of targets, and combinations that make no sense. */

import { expect, test } from 'vitest'
import type { QuantizeOptions } from '../../../src/quant/terms/options.ts'
import { resolveOptions } from '../../../src/quant/terms/resolve-options.ts'
import { weightOverrideName } from '../../../src/quant/terms/scheme.ts'

const resolve = (options: Partial<QuantizeOptions>) => resolveOptions({ model: 'm.onnx', ...options })

test.each<[string, Partial<QuantizeOptions>, string]>([
  ['CPUs: wider groups where the kernel is the same', {}, 'w2g128 w2g64 w4g128 w4g64 w4g32 w8g128'],
  ['CUDA', { target: 'cuda' }, 'w2g128 w2g64 w4g128sym w4g64sym w4g32sym w8g128sym w8g64sym w8g32sym'],
  ['DirectML has no kernel for 2 bits', { target: 'directml' }, 'w4g128 w4g64 w4g32 w8g128 w8g64 w8g32'],
  ['one scale per output, and no 2 bits in DequantizeLinear', { target: 'qnn' }, 'w4sym w8sym'],
  ['a group that was asked for', { group: 16 }, 'w2g16 w4g16 w8g16'],
  ['no zero points', { perChannel: true, symmetric: true }, 'w2sym w4sym w8sym'],
])('candidates: %s', (_, options, names) => {
  const { choosing, scheme } = resolve({ maxSize: 1e6, ...options })
  expect(choosing!.candidates.map(weightOverrideName).join(' ')).toBe(names)
  expect(scheme.activations).toBeUndefined()
})

test.each<[Partial<QuantizeOptions>, string, string]>([
  [{ dryRun: true, scheme: 'w4a16' }, 'dryRun', '`dryRun` is for runs that choose bits'],
  [{ sensitivity: 's.json', scheme: 'w4a16' }, 'sensitivity', '`sensitivity` is for runs that choose bits'],
  [{ maxSize: 1e6, maxKl: 0.1 }, 'maxKl', '`maxSize` and `maxKl` exclude each other'],
  [{ maxSize: 1e6, scheme: 'w4a16' }, 'scheme', 'it excludes `scheme`'],
  [{ maxKl: 0.1, bits: 4 }, 'bits', '`maxKl` chooses the bits of weights and leaves activations float'],
  [{ maxSize: 1e6, activationBits: 8 }, 'activationBits', 'it excludes `activationBits`'],
  [{ maxSize: 1e6, params: 'p.safetensors' }, 'params', '`maxSize` and `params` exclude each other'],
  [{ maxSize: 0.5 }, 'maxSize', '`maxSize` takes a whole number from 1 up'],
  [{ maxKl: 0 }, 'maxKl', '`maxKl` takes a number above 0'],
])('%j is refused', (options, key, message) => {
  expect(() => resolve(options)).toThrow(
    expect.objectContaining({
      code: 'E_USAGE',
      option: key,
      message: expect.stringContaining(message) as string,
    }) as Error,
  )
})
