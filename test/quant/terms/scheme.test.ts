import { expect, test } from 'vitest'
import { parseScheme, schemeName } from '../../../src/quant/terms/scheme.ts'

test.each([
  ['w4a16', {}, 'w4a16g128'],
  ['W3A16', { perChannel: true }, 'w3a16'],
  ['w2a16g64', {}, 'w2a16g64'],
  ['w8a16g64', { group: 64 }, 'w8a16g64'],
  ['w5a16', { symmetric: true }, 'w5a16g128sym'],
  ['w4a4', {}, 'w4a4'],
  ['w4a8g32', {}, 'w4a8g32'],
  ['w8a8', { symmetric: true, symmetricActivations: true }, 'w8a8sym-symact'],
])('%s with %o is %s', (text, overrides, name) => {
  expect(schemeName(parseScheme(text, overrides))).toBe(name)
})

test('what a scheme prints, it reads again', () => {
  const scheme = parseScheme('w3a16g256')
  expect(parseScheme(schemeName(scheme))).toEqual(scheme)
})

test.each([
  ['fp8', {}, '"fp8" is not a scheme'],
  ['w1a16', {}, '1-bit weights cannot be made'],
  ['w9a16', {}, '9-bit weights cannot be made'],
  ['w4a3', {}, '3-bit activations cannot be made'],
  ['w4a12', {}, '12-bit activations cannot be made'],
  ['w4a16', { symmetricActivations: true }, 'there are no quantized activations to be symmetric'],
  ['w4a16', { group: 48 }, 'groups of 48 weights cannot be stored'],
  ['w8a16g64', { group: 32 }, '`scheme: w8a16g64` and `group: 32` contradict each other'],
  ['w8a16g64', { perChannel: true }, '`scheme: w8a16g64` and `perChannel: true` contradict each other'],
  ['w4a16', { group: 32, perChannel: true }, '`group` and `perChannel` exclude each other'],
])('%s with %o is refused', (text, overrides, message) => {
  expect(() => parseScheme(text, overrides)).toThrow(expect.objectContaining({ code: 'E_SCHEME', message }))
})
