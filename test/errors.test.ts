/** @file Messages of errors: they never steer the terminal they are shown on. */

import { expect, test } from 'vitest'
import { QuantError } from '../src/errors.ts'
import { printable, printableLine } from '../src/printable.ts'

test('names from files cannot steer or flood a terminal', () => {
  const { message } = new QuantError('E_NOT_ONNX', 'node "\u001b[2J\u0007\u202eevil\u009b" of\nthe graph, naïve 漢字')
  expect(message).toBe('node "\\u001b[2J\\u0007\\u202eevil\\u009b" of\nthe graph, naïve 漢字')
  const { hint } = new QuantError(
    'E_USAGE',
    'no linear matches',
    'Closest: a\u001b[31m\u2066b\u0085.\n`inspect` shows all.',
  )
  expect(hint).toBe('Closest: a\\u001b[31m\\u2066b\\u0085.\n`inspect` shows all.')
  for (const text of [message, hint!]) expect(printable(text)).toBe(text)
  const long = new QuantError('E_NOT_ONNX', 'x'.repeat(1e6), 'y'.repeat(1e6))
  expect([long.message.length, long.hint!.length]).toEqual([8003, 8003])
})

test('every control and everything that turns the direction of writing is written out, and nothing else', () => {
  const unicode = Array.from({ length: 0xd800 }, (_, code) => String.fromCharCode(code))
  const ranges = [
    [0x00, 0x09],
    [0x0b, 0x1f],
    [0x7f, 0x9f],
    [0x61c, 0x61c],
    [0x200e, 0x200f],
    [0x2028, 0x202e],
    [0x2066, 0x2069],
  ]
  const steering = ranges.flatMap(([from, to]) => unicode.slice(from, to! + 1))
  expect(unicode.filter(char => printable(char) !== char)).toEqual(steering)
  for (const char of steering) expect(JSON.parse(`"${printable(char)}"`)).toBe(char)
  expect([printable('a\n'), printableLine('a\n')]).toEqual(['a\n', 'a\\u000a'])
})
