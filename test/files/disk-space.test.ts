/** @file A run that cannot fit is refused before it begins. */

import { statfsSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { checkDiskSpace } from '../../src/files/disk-space.ts'
import { tempDir } from '../helpers/temp-dir.ts'

const folder = tempDir()

test('what fits is fine, in folders that are not there yet as well', () => {
  checkDiskSpace([{ what: 'the output', folder: join(folder, 'a', 'b'), bytes: 1000 }])
})

test('needs on one disk are added up, and the message names each', () => {
  const { bavail, bsize } = statfsSync(folder)
  const bytes = bavail * bsize * 0.6
  const needs = [
    { what: 'hidden states', folder: join(folder, 'work'), bytes },
    { what: 'the output', folder, bytes },
  ]
  for (const need of needs) checkDiskSpace([need])
  expect(() => checkDiskSpace(needs)).toThrow(
    expect.objectContaining({
      code: 'E_OUTPUT',
      message: expect.stringMatching(
        / has .* free, and .* needs about .* \(hidden states .*, the output .*\)$/,
      ) as string,
      hint: expect.stringContaining('`workDir`') as string,
    }),
  )
})
