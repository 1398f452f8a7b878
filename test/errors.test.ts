/** @file What messages never do to the terminal they are shown on. */

import { expect, test } from 'vitest'
import { QuantError } from '../src/errors.ts'

test('names from files cannot steer or flood a terminal', () => {
  const { message } = new QuantError('E_NOT_ONNX', 'node "\u001b[2J\u0007\u202eevil\u009b" of\nthe graph, naïve 漢字')
  expect(message).toBe('node "\\u001b[2J\\u0007\\u202eevil\\u009b" of\nthe graph, naïve 漢字')
  expect(new QuantError('E_NOT_ONNX', 'x'.repeat(1e6)).message.length).toBe(8003)
})
