/** @file Locks: one process holds a lock at a time, and a lock ends with its process. */

import { fork } from 'node:child_process'
import { once } from 'node:events'
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { Lock } from '../../src/files/lock.ts'
import { thisProcess } from '../../src/files/lock-owner.ts'
import { testFolder } from '../helpers/test-folder.ts'
import { unless } from '../helpers/unless.ts'

const TIMES = { beatMs: 50, limitMs: 2000 }
const take = (name: string) => Lock.take(name, 'this output', TIMES)
const nameIn = (folder: string): string => join(folder, 'lock')
const refused = (text: string) =>
  expect.objectContaining({ code: 'E_RESUME', message: expect.stringContaining(text) as string }) as Error

/** A lock as a process that is gone, or is elsewhere, left it, so many seconds ago. */
function leave(path: string, change: Partial<ReturnType<typeof thisProcess>>, ageSeconds = 0): void {
  writeFileSync(path, JSON.stringify({ ...thisProcess(), ...change }))
  utimesSync(path, Date.now() / 1000 - ageSeconds, Date.now() / 1000 - ageSeconds)
}

test('a lock keeps others out, and names its process; given free, it is gone', async () => {
  const name = nameIn(testFolder())
  const lock = await take(name)
  lock.check()
  await expect(take(name)).rejects.toThrow(
    refused(`process ${process.pid} on ${thisProcess().host} is working on this output`),
  )
  lock.release()
  lock.release()
  expect(readdirSync(dirname(name))).toEqual([])
  const again = await take(name)
  lock.release()
  again.check()
  again.release()
})

test('of a process that was killed it is taken over, and nothing of it stays', async () => {
  const name = nameIn(testFolder())
  leave(`${name}.1`, { pid: 2 ** 22 + 1 })
  writeFileSync(join(dirname(name), '.lock.0123456789abcdef.tmp'), 'half')
  const lock = await take(name)
  lock.check()
  expect(readdirSync(dirname(name))).toEqual(['lock.2'])
  lock.release()
  expect(readdirSync(dirname(name))).toEqual([])
})

test(
  'a PID that another process has now is no lock',
  unless(existsSync('/proc') ? undefined : 'no /proc'),
  async () => {
    const name = nameIn(testFolder())
    leave(`${name}.1`, { started: '1' })
    const lock = await take(name)
    lock.release()
  },
)

const ELSEWHERE = [
  ['of another machine', { host: 'elsewhere', boot: 'another' }],
  ['of another container of one host name', { namespace: 'pid:[1]' }],
] as const

test.each(ELSEWHERE)('a lock %s lives as long as its heart beats', async (_, change) => {
  const name = nameIn(testFolder())
  leave(`${name}.1`, { pid: 7, ...change }, 1)
  await expect(take(name)).rejects.toThrow(refused('process 7 on '))
  // Its clock is slow: its last beat looks old, but there is another one soon.
  leave(`${name}.1`, { pid: 7, ...change }, 100)
  setTimeout(() => utimesSync(`${name}.1`, 1, 1), 80)
  await expect(take(name)).rejects.toThrow(refused('process 7 on '))
  leave(`${name}.1`, { pid: 7, ...change }, 100)
  const lock = await take(name)
  lock.check()
  lock.release()
})

test('a lock without a readable owner is respected while it is young', async () => {
  const name = nameIn(testFolder())
  writeFileSync(`${name}.1`, '{')
  await expect(take(name)).rejects.toThrow(refused('another process is working'))
  utimesSync(`${name}.1`, 1, 1)
  const lock = await take(name)
  lock.release()
})

test("links and folders under the name are nobody's lock, and what they lead to stays", async () => {
  const folder = testFolder()
  const name = nameIn(folder)
  writeFileSync(join(folder, 'victim'), 'secret')
  symlinkSync(join(folder, 'victim'), `${name}.1`)
  symlinkSync(join(folder, 'nothing'), `${name}.2`)
  mkdirSync(`${name}.3`)
  const lock = await take(name)
  lock.check()
  lock.release()
  expect(readdirSync(folder).sort()).toEqual(['lock.3', 'victim'])
  expect(readFileSync(join(folder, 'victim'), 'utf8')).toBe('secret')
})

test('the heart beats while the process is blocked', async () => {
  const name = nameIn(testFolder())
  const lock = await take(name)
  const beat = () => lstatSync(`${name}.1`).mtimeMs
  const start = beat()
  while (beat() === start) await sleep(10) // The thread starts.
  const before = beat()
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000)
  expect(beat()).toBeGreaterThan(before + 100)
  lock.release()
})

test('whoever lost the lock is told, and takes nothing from the new owner', async () => {
  const name = nameIn(testFolder())
  const lock = await take(name)
  rmSync(`${name}.1`)
  expect(() => lock.check()).toThrow(refused('is gone'))
  leave(`${name}.1`, { host: 'elsewhere' })
  expect(() => lock.check()).toThrow(refused('is gone'))
  lock.release()
  expect(basename(readdirSync(dirname(name))[0]!)).toBe('lock.1')
})

test('of processes that all find a dead lock one gets it, again and again', async () => {
  const name = nameIn(testFolder())
  const children = Array.from({ length: 4 }, () =>
    fork(resolve(import.meta.dirname, '../helpers/lock-process.js'), { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] }),
  )
  const answers = () => Promise.all(children.map(async child => ((await once(child, 'message')) as [string])[0]))
  try {
    await answers()
    for (let round = 0; round < 25; round++) {
      leave(`${name}.${1 + (round % 3)}`, { pid: 2 ** 22 + 1 })
      const taken = answers()
      // All begin at one moment, which they wait for without giving up the processor.
      for (const child of children) child.send({ name, at: Date.now() + 20 })
      expect((await taken).sort(), `round ${round}`).toEqual(['E_RESUME', 'E_RESUME', 'E_RESUME', 'held'])
      const freed = answers()
      for (const child of children) child.send('release')
      await freed
      expect(readdirSync(dirname(name))).toEqual([])
    }
  } finally {
    for (const child of children) child.kill('SIGKILL')
  }
})
