/** @file Sets of files: all new ones, or all old ones, or no head, whichever call fails and wherever the process ends. */

import { lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { messageOf } from '../../src/errors.ts'
import { FileSet, publishTogether, recoverSet, type SetPlace } from '../../src/files/file-set.ts'
import { faults } from '../helpers/failing-fs.ts'
import { testFolder } from '../helpers/test-folder.ts'

vi.mock('node:fs', async original => (await import('../helpers/failing-fs.ts')).failingFs(await original()))
beforeEach(() => faults.reset())
afterEach(() => faults.reset())

const OLD = { head: 'old head', data: 'old data' }
const NEW = { head: 'new head', data: 'new data', 'sub/extra': 'new extra' }

const placeIn = (folder: string): SetPlace => ({
  head: join(folder, 'head'),
  others: [join(folder, 'data')],
  folders: [folder, join(folder, 'sub')],
})

/** Visible files, name -> content. */
function visible(folder: string): Record<string, string> {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  const files = names.filter(name => !basename(name).startsWith('.') && lstatSync(join(folder, name)).isFile())
  return Object.fromEntries(files.sort().map(name => [name, readFileSync(join(folder, name), 'utf8')]))
}

const hidden = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter(name => basename(name).startsWith('.'))

function prepare(old: boolean): string {
  const folder = testFolder()
  mkdirSync(join(folder, 'sub'))
  if (old) for (const [name, text] of Object.entries(OLD)) writeFileSync(join(folder, name), text)
  return folder
}

const publish = (folder: string): Promise<void> =>
  publishTogether(join(folder, 'head'), set => {
    for (const [name, text] of Object.entries(NEW)) set.add(join(folder, name), name in OLD).write(Buffer.from(text))
    return Promise.resolve()
  })

async function countCalls(old: boolean): Promise<number> {
  const folder = prepare(old)
  faults.reset()
  await publish(folder)
  return faults.count
}

describe.each([true, false])('an old set is there: %s', old => {
  const before = old ? OLD : {}

  test('all appear, and nothing else is left', async () => {
    const folder = prepare(old)
    await publish(folder)
    expect(visible(folder)).toEqual(NEW)
    expect(hidden(folder)).toEqual([])
  })

  test('when a call fails all is as before, or the set is complete', async () => {
    const calls = await countCalls(old)
    expect(calls).toBeGreaterThan(20)
    let failures = 0
    for (let at = 0; at < calls; at++) {
      const folder = prepare(old)
      faults.reset(at)
      const error = await publish(folder).then(
        () => undefined,
        (reason: unknown) => reason,
      )
      faults.reset()
      expect(visible(folder), `call ${at}`).toEqual(error === undefined ? NEW : before)
      if (error !== undefined) {
        failures++
        expect(error).toMatchObject({ message: expect.stringContaining(`[call ${at}]`) as string })
      }
      // On a disk that fails for good the first error is told as well.
      const broken = prepare(old)
      faults.reset(at, true)
      const first = await publish(broken).then(() => undefined, messageOf)
      faults.reset()
      if (error !== undefined) expect(first).toContain(`[call ${at}]`)
      recoverSet(placeIn(folder))
      expect(hidden(folder), `call ${at}`).toEqual([])
    }
    // What tidies up behind the last step may fail unnoticed, and a second look at what is to be replaced.
    expect(calls - failures).toBe(old ? 4 : 0)
  })

  test('wherever the process ends there is no head with files of another one, and the next process tidies up', async () => {
    const calls = await countCalls(old)
    for (let at = 0; at < calls; at++) {
      const folder = prepare(old)
      faults.reset(at, true)
      await publish(folder).catch(() => undefined)
      faults.reset()
      const { head, data } = visible(folder)
      if (head !== undefined)
        expect([head, data], `call ${at}`).toEqual(head === NEW.head ? [NEW.head, NEW.data] : [OLD.head, OLD.data])
      recoverSet(placeIn(folder))
      expect(hidden(folder), `call ${at}`).toEqual([])
      const after = visible(folder)
      if (old) expect([OLD, NEW].map(({ head: h, data: d }) => `${h} ${d}`)).toContain(`${after.head} ${after.data}`)
      // The same again, from what was left.
      rmSync(join(folder, 'sub/extra'), { force: true })
      await publish(folder)
      expect(visible(folder)).toEqual(NEW)
    }
  })
})

test('links under the names are replaced, and what they lead to stays', async () => {
  const [folder, victims] = [prepare(false), testFolder()]
  for (const name of ['head', 'data']) {
    writeFileSync(join(victims, name), 'secret')
    symlinkSync(join(victims, name), join(folder, name))
  }
  await publish(folder)
  expect(visible(folder)).toEqual(NEW)
  expect(hidden(folder)).toEqual([])
  expect(visible(victims)).toEqual({ head: 'secret', data: 'secret' })
})

test('what must not be replaced and has appeared, and folders, make it fail and change nothing', async () => {
  const folder = prepare(true)
  writeFileSync(join(folder, 'sub/extra'), "somebody else's")
  const before = visible(folder)
  await expect(publish(folder)).rejects.toThrow(/sub\/extra has appeared while the output was written/)
  expect(visible(folder)).toEqual(before)
  const other = testFolder()
  const set = new FileSet(join(other, 'head'))
  set.add(set.head)
  mkdirSync(set.head)
  expect(() => set.publish()).toThrow(/head: it is a folder/)
  set.discard()
  expect(readdirSync(other)).toEqual(['head'])
})

test('what must not be replaced and has appeared with the same content stays as it is', async () => {
  const folder = prepare(true)
  writeFileSync(join(folder, 'sub/extra'), NEW['sub/extra'])
  const { ino } = statSync(join(folder, 'sub/extra'))
  await publish(folder)
  expect(visible(folder)).toEqual(NEW)
  expect(hidden(folder)).toEqual([])
  expect(statSync(join(folder, 'sub/extra')).ino).toBe(ino)
})

test('hidden files of other sets are left alone', () => {
  const folder = prepare(true)
  const others = [
    '.other.0123456789abcdef.tmp',
    '.other.0123456789abcdef.old',
    '.head.tmp',
    '.head.0123456789abcdef.bak',
  ]
  for (const name of others) writeFileSync(join(folder, name), '')
  writeFileSync(join(folder, '.head.0123456789abcdef.tmp'), '')
  writeFileSync(join(folder, 'sub/.head.0123456789abcdef.tmp'), '')
  recoverSet(placeIn(folder))
  expect(hidden(folder).sort()).toEqual(others.sort())
})

test('a set without its head is a mistake of ours', () => {
  const set = new FileSet(join(testFolder(), 'head'))
  set.add(`${set.head}.data`)
  expect(() => set.publish()).toThrow(expect.objectContaining({ code: 'E_INTERNAL' }))
  set.discard()
})
