/** @file Calibration tokens when no file is given. */

import { expect, test } from 'vitest'
import { checkMemory } from '../../src/calibration/calibrate.ts'

test('a model of more than half the memory does not write its own text', () => {
  checkMemory(8e9, 16e9)
  expect(() => checkMemory(28e9, 16e9)).toThrow(
    expect.objectContaining({
      code: 'E_CALIBRATION',
      message: 'the model is too large to write its own calibration text here: 28.0 GB of weights, 16.0 GB of memory',
      hint: expect.stringContaining('`calib: FILE`') as string,
    }),
  )
})
