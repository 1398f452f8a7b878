/** @file One run at a time, going on only from its own work, and nobody else's files are touched. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { blockName, finishedBefore, isWorthKeeping, trainingName } from '../../src/quant/resume/progress.ts'
import { WorkFolder } from '../../src/files/work-folder.ts'
import { tempDir } from '../helpers/temp-dir.ts'

const folder = tempDir()
let count = 0
const place = (): string => join(folder, String(count++))
const SIGNATURE = { omniquant: '1', epochs: '4' }

test('the same run finds what it left, another one is told what differs', () => {
  const path = place()
  const first = WorkFolder.open(path, SIGNATURE, false)
  expect(first.resumed).toBe(false)
  first.write(blockName(0), { rows: 3 })
  first.release()
  const again = WorkFolder.open(path, SIGNATURE, false)
  expect([again.resumed, again.read(blockName(0))]).toEqual([true, { rows: 3 }])
  again.release()
  expect(() => WorkFolder.open(path, { ...SIGNATURE, epochs: '8' }, false)).toThrow(
    expect.objectContaining({
      code: 'E_RESUME',
      message: expect.stringContaining('its epochs was 4, now it is 8') as string,
      hint: expect.stringContaining('--fresh') as string,
    }),
  )
  const fresh = WorkFolder.open(path, { ...SIGNATURE, epochs: '8' }, true)
  expect([fresh.resumed, fresh.has(blockName(0))]).toEqual([false, false])
  fresh.remove()
  expect(existsSync(path)).toBe(false)
})

test('folders that were made go with it, those that hold something else do not', () => {
  const above = place()
  WorkFolder.open(join(above, 'a', 'b'), SIGNATURE, false).remove()
  expect(existsSync(above)).toBe(false)
  const work = WorkFolder.open(join(above, 'a', 'b'), SIGNATURE, false)
  writeFileSync(join(above, 'mine'), '')
  work.remove()
  expect(readdirSync(above)).toEqual(['mine'])
})

test.each([false, true])('a folder with other files is not used, fresh: %s', fresh => {
  const path = place()
  mkdirSync(path)
  writeFileSync(join(path, 'photo.jpg'), '')
  expect(() => WorkFolder.open(path, SIGNATURE, fresh)).toThrow('holds other files: photo.jpg')
  expect(readdirSync(path)).toEqual(['photo.jpg'])
})

test('a file where the folder should be is E_OUTPUT', () => {
  const path = place()
  writeFileSync(path, '')
  expect(() => WorkFolder.open(path, SIGNATURE, false)).toThrow(expect.objectContaining({ code: 'E_OUTPUT' }))
})

test('a process that is still at work keeps others out; one that died does not', async () => {
  const path = place()
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'])
  await once(child, 'spawn')
  WorkFolder.open(path, SIGNATURE, false).release()
  const stat = existsSync('/proc') ? readFileSync(`/proc/${child.pid}/stat`, 'utf8') : ''
  const start = stat === '' ? '-' : stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]!
  writeFileSync(join(path, 'lock'), `${child.pid} ${start} ${hostname()}`)
  expect(() => WorkFolder.open(path, SIGNATURE, false)).toThrow(`process ${child.pid} is working`)
  expect(existsSync(join(path, 'run.record'))).toBe(true)
  expect(readFileSync(join(path, 'lock'), 'utf8')).toContain(String(child.pid))
  child.kill('SIGKILL')
  await once(child, 'exit')
  WorkFolder.open(path, SIGNATURE, false).release()
})

test.skipIf(!existsSync('/proc'))('a number that another process has now is no lock', () => {
  const path = place()
  WorkFolder.open(path, SIGNATURE, false).release()
  writeFileSync(join(path, 'lock'), `${process.pid} 1 ${hostname()}`)
  WorkFolder.open(path, SIGNATURE, false).release()
})

test('damage is E_RESUME, and --fresh gets rid of it', () => {
  const path = place()
  const work = WorkFolder.open(path, SIGNATURE, false)
  work.write(blockName(0), { rows: 3 })
  work.release()
  writeFileSync(work.file('run.record'), 'nonsense')
  expect(() => WorkFolder.open(path, SIGNATURE, false)).toThrow(expect.objectContaining({ code: 'E_RESUME' }))
  const fresh = WorkFolder.open(path, SIGNATURE, true)
  expect(fresh.has(blockName(0))).toBe(false)
  fresh.remove()
})

test('how far a run is: finished blocks in order, and whether there is anything to keep', () => {
  const path = place()
  const work = WorkFolder.open(path, SIGNATURE, false)
  work.write('calibration', [])
  expect([finishedBefore(work, 3), isWorthKeeping(path)]).toEqual([0, false])
  work.write(trainingName(0), {})
  expect([finishedBefore(work, 3), isWorthKeeping(path)]).toEqual([0, true])
  for (const index of [0, 1, 3]) work.write(blockName(index), {})
  expect(finishedBefore(work, 5)).toBe(2)
  writeFileSync(work.file('float-001.f32'), '')
  writeFileSync(work.file('float-002.f32'), '')
  work.removeAllBut(['float-002.f32'])
  expect(readdirSync(path).filter(name => name.endsWith('.f32'))).toEqual(['float-002.f32'])
  work.remove()
  expect(isWorthKeeping(path)).toBe(false)
})
