/** @file Errors of the file system have words, wherever they come from. */

import { mkdirSync, renameSync, statSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { QuantError } from '../../src/errors.ts'
import { inWords } from '../../src/files/disk-errors.ts'
import { Lock } from '../../src/files/lock.ts'
import { SourceWatch } from '../../src/files/digest.ts'
import { tempDir } from '../helpers/temp-dir.ts'

const folder = tempDir()

test('an error of the system gets words, others stay as they are', async () => {
  const absent = join(folder, 'absent')
  await expect(inWords(async () => Promise.resolve(statSync(absent)))).rejects.toThrow(
    expect.objectContaining({ code: 'E_OUTPUT', message: expect.stringContaining(absent) as string }),
  )
  for (const error of [new QuantError('E_SCHEME', 'no such scheme'), new TypeError('a mistake'), 'a reason'])
    await expect(inWords(() => Promise.reject(error as Error))).rejects.toBe(error)
  expect(await inWords(() => Promise.resolve(3))).toBe(3)
})

/** Puts a link to itself in place of a folder: the system does not say what is in it. */
function makeUnreadable(path: string): void {
  renameSync(path, `${path}-away`)
  symlinkSync(path, path)
}

test('a lock that cannot be looked at is not taken for gone', async () => {
  const place = join(folder, 'locked')
  const lock = await Lock.take(join(place, 'lock'), 'this output')
  makeUnreadable(place)
  expect(() => lock.check()).toThrow(
    expect.objectContaining({ code: 'E_OUTPUT', message: expect.stringContaining('ELOOP') as string }),
  )
  lock.release()
})

test('a source that cannot be looked at is not taken for changed', () => {
  const place = join(folder, 'source')
  mkdirSync(place)
  const watch = new SourceWatch([join(place, 'model.onnx')])
  watch.check()
  makeUnreadable(place)
  expect(() => watch.check()).toThrow('ELOOP')
})
