/** @file Work folders: one run at a time, resumed only by the same run; files of others stay. */

import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { unless } from '../helpers/unless.ts'
import { ActivationStore } from '../../src/calibration/activation-store.ts'
import { WorkFolder, type WorkPlace, workPlace } from '../../src/files/work-folder.ts'
import { blockName, finishedBefore, isWorthKeeping, trainingName } from '../../src/quant/resume.ts'
import { tempDir } from '../helpers/temp-dir.ts'

const MOUNT = '/dev/shm'
const folder = tempDir()
let count = 0
const fresh = (): string => {
  const path = join(folder, String(count++))
  mkdirSync(path)
  return path
}
const placeIn = (out: string, workDir?: string): WorkPlace => workPlace(join(out, 'q.onnx'), workDir)
const SIGNATURE = { omniquant: '1', epochs: '4' }
const open = (place: WorkPlace, again = false) => WorkFolder.open(place, SIGNATURE, again)

test('the same run finds what it left, another one is told what differs', async () => {
  const out = fresh()
  const first = await open(placeIn(out))
  expect(first.resumed).toBe(false)
  first.write(blockName(0), { rows: 3 })
  first.release()
  expect(readdirSync(out)).toEqual(['.q.onnx.omniquant'])
  const again = await open(placeIn(out))
  expect([again.resumed, again.read(blockName(0))]).toEqual([true, { rows: 3 }])
  again.release()
  const other = { ...SIGNATURE, epochs: '8' }
  await expect(WorkFolder.open(placeIn(out), other, false)).rejects.toThrow(
    expect.objectContaining({
      code: 'E_RESUME',
      message: expect.stringContaining('its epochs was 4, now it is 8') as string,
      hint: expect.stringContaining('`fresh: true`') as string,
    }),
  )
  const started = await WorkFolder.open(placeIn(out), other, true)
  expect([started.resumed, started.has(blockName(0))]).toEqual([false, false])
  expect(started.remove()).toEqual([])
  expect(readdirSync(out)).toEqual([])
})

test('folders that were made go with it, those that hold something else do not', async () => {
  const above = fresh()
  const deep = join(above, 'a', 'b')
  expect((await open(placeIn(join(above, 'c'), deep))).remove()).toEqual([])
  expect(readdirSync(above)).toEqual([])
  const work = await open(placeIn(join(above, 'c'), deep))
  writeFileSync(join(above, 'a', 'mine'), '')
  expect(work.remove()).toEqual([])
  expect(readdirSync(above)).toEqual(['a'])
  expect(readdirSync(join(above, 'a'))).toEqual(['mine'])
})

test('in a folder that the user names it has one of its own, for each output another', async () => {
  const [a, b, shared] = [fresh(), fresh(), fresh()]
  writeFileSync(join(shared, 'photo.record'), 'mine')
  const [first, second] = [await open(placeIn(a, shared)), await open(placeIn(b, shared))]
  expect(readdirSync(shared)).toHaveLength(3)
  expect([first.remove(), second.remove()]).toEqual([[], []])
  expect(readdirSync(shared)).toEqual(['photo.record'])
})

test('that folder may be a link', async () => {
  const [out, disk, links] = [fresh(), fresh(), fresh()]
  symlinkSync(disk, join(links, 'scratch'))
  const work = await open(placeIn(out, join(links, 'scratch')))
  expect(readdirSync(disk)).toHaveLength(1)
  expect(work.remove()).toEqual([])
  expect([readdirSync(disk), readdirSync(links)]).toEqual([[], ['scratch']])
})

test(
  'that folder may be the root of a file system, which nobody can remove',
  unless(existsSync(MOUNT) ? undefined : `there is no ${MOUNT} here`),
  async () => {
    const out = fresh()
    const work = await open(placeIn(out, MOUNT))
    expect(dirname(work.path)).toBe(MOUNT)
    work.write(blockName(0), 1)
    expect(work.remove()).toEqual([])
    expect([existsSync(work.path), readdirSync(out)]).toEqual([false, []])
  },
)

test.each([false, true])("others' files in its own folder stay, with a note; fresh: %s", async again => {
  const out = fresh()
  const own = join(out, '.q.onnx.omniquant')
  mkdirSync(own)
  writeFileSync(join(own, 'photo.jpg'), '')
  const work = await open(placeIn(out), again)
  work.write(blockName(0), 1)
  expect(work.remove()).toEqual([`${own} stays: it holds photo.jpg, which omniquant did not make`])
  expect([readdirSync(out), readdirSync(own)]).toEqual([['.q.onnx.omniquant'], ['photo.jpg']])
})

test('what cannot be removed is a note', async () => {
  const out = fresh()
  const work = await open(placeIn(out))
  mkdirSync(work.file('float-000.f32'))
  work.removeAllBut([])
  expect(work.remove()).toEqual([`could not remove float-000.f32 in ${work.path}: remove that folder`])
})

test('its own folder is never a link, nor a file', async () => {
  for (const plant of [
    (path: string) => symlinkSync(fresh(), path),
    (path: string) => symlinkSync(join(folder, 'nothing'), path),
    (path: string) => writeFileSync(path, ''),
  ]) {
    const out = fresh()
    plant(join(out, '.q.onnx.omniquant'))
    await expect(open(placeIn(out))).rejects.toThrow(
      expect.objectContaining({
        code: 'E_OUTPUT',
        message: expect.stringMatching(/it is (a link|not a folder)$/) as string,
      }),
    )
    expect(readdirSync(out)).toEqual(['.q.onnx.omniquant'])
  }
})

test('links planted in it lead to no harm', async () => {
  const out = fresh()
  const own = join(out, '.q.onnx.omniquant')
  const victim = join(folder, 'victim')
  const secret = () => readFileSync(victim, 'utf8')
  mkdirSync(own)
  writeFileSync(victim, 'secret')
  const names = ['lock', 'lock.1', 'run.record.tmp', 'block-000.record', 'float-000.f32', 'float-001.f32']
  for (const name of names) symlinkSync(victim, join(own, name))
  symlinkSync(victim, join(out, '.q.onnx.lock.1'))
  const work = await open(placeIn(out))
  work.write(blockName(0), { rows: 3 })
  new ActivationStore(work.file('float-000.f32'), 1, [2]).remove()
  expect(() => new ActivationStore(work.file('float-001.f32'), 1, [2], true)).toThrow(
    expect.objectContaining({ code: 'E_RESUME' }),
  )
  expect(secret()).toBe('secret')
  work.remove()
  expect(secret()).toBe('secret')
  expect(readdirSync(own).sort()).toEqual(['lock', 'run.record.tmp'])

  // What is read as what an earlier run left is a file, too.
  symlinkSync(victim, join(own, 'run.record'))
  await expect(open(placeIn(out))).rejects.toThrow(expect.objectContaining({ code: 'E_RESUME' }))
  ;(await open(placeIn(out), true)).remove()
  expect(secret()).toBe('secret')
})

test('two runs with one output know of each other, whatever their folders', async () => {
  const [out, a, b] = [fresh(), fresh(), fresh()]
  const work = await open(placeIn(out, a))
  for (const place of [placeIn(out), placeIn(out, b), placeIn(out, a)])
    await expect(open(place)).rejects.toThrow(
      expect.objectContaining({
        code: 'E_RESUME',
        message: expect.stringContaining(`process ${process.pid} on `) as string,
      }),
    )
  expect([readdirSync(out), readdirSync(b)]).toEqual([['.q.onnx.lock.1'], []])
  work.write(blockName(0), 1)
  work.release()
  expect(readdirSync(out)).toEqual([])
})

test('what a dead process left can be cleared up, unless another one has gone on', async () => {
  const out = fresh()
  const place = placeIn(out)
  const work = await open(place)
  expect(await WorkFolder.adopt(place)).toBeUndefined()
  work.release()
  const adopted = await WorkFolder.adopt(place)
  expect(adopted!.remove()).toEqual([])
  expect(readdirSync(out)).toEqual([])
})

test('damage is E_RESUME, and --fresh gets rid of it', async () => {
  const out = fresh()
  const work = await open(placeIn(out))
  work.write(blockName(0), { rows: 3 })
  work.release()
  writeFileSync(work.file('run.record'), 'nonsense')
  await expect(open(placeIn(out))).rejects.toThrow(expect.objectContaining({ code: 'E_RESUME' }))
  const again = await open(placeIn(out), true)
  expect(again.has(blockName(0))).toBe(false)
  again.remove()
})

test('how far a run is: finished blocks in order, and whether there is anything to keep', async () => {
  const work = await open(placeIn(fresh()))
  work.write('calibration', [])
  expect([finishedBefore(work, 3), isWorthKeeping(work.path)]).toEqual([0, false])
  work.write(trainingName(0), {})
  expect([finishedBefore(work, 3), isWorthKeeping(work.path)]).toEqual([0, true])
  for (const index of [0, 1, 3]) work.write(blockName(index), {})
  expect(finishedBefore(work, 5)).toBe(2)
  writeFileSync(work.file('float-001.f32'), '')
  writeFileSync(work.file('float-002.f32'), '')
  work.removeAllBut(['float-002.f32'])
  expect(readdirSync(work.path).filter(name => name.endsWith('.f32'))).toEqual(['float-002.f32'])
  work.remove()
  expect(isWorthKeeping(work.path)).toBe(false)
})

test('room that scratch files take is known, and what they only promise to take is not counted', async () => {
  const work = await open(placeIn(fresh()))
  expect(work.scratchBytes).toBe(0)
  writeFileSync(work.file('float-001.f32'), Buffer.alloc(2 ** 20, 1))
  writeFileSync(work.file('float-002.f32'), '')
  truncateSync(work.file('float-002.f32'), 2 ** 30)
  expect(work.scratchBytes).toBeGreaterThanOrEqual(2 ** 20)
  expect(work.scratchBytes).toBeLessThan(2 ** 21)
  work.remove()
  expect(existsSync(work.path)).toBe(false)
})

test('blocks that nothing says the run of, as after a kill while they were removed, are not gone on from', async () => {
  const out = fresh()
  const first = await open(placeIn(out))
  for (const name of [blockName(0), trainingName(1)]) first.write(name, { rows: 3 })
  first.forget('run')
  first.release()
  const other = await WorkFolder.open(placeIn(out), { ...SIGNATURE, epochs: '8' }, false)
  expect([other.resumed, other.has(blockName(0)), other.has(trainingName(1))]).toEqual([false, false, false])
  expect(other.remove()).toEqual([])
})

test.each([false, true])('what cannot be removed is not taken for a block (--fresh: %s)', async again => {
  const out = fresh()
  const block = join(placeIn(out).path, `${blockName(0)}.record`)
  mkdirSync(block, { recursive: true })
  await expect(open(placeIn(out), again)).rejects.toThrow(
    expect.objectContaining({ code: 'E_OUTPUT', message: expect.stringContaining(block) as string }),
  )
  expect(readdirSync(placeIn(out).path)).toEqual([`${blockName(0)}.record`])
})
