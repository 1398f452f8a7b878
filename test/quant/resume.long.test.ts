/** @file A run that is killed, at any moment and any number of times, ends in the bytes of one that was left alone. */

import { fork } from 'node:child_process'
import { once } from 'node:events'
import {
  appendFileSync,
  closeSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeSync,
} from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import { type QuantizeOptions } from '../../src/quant/terms/options.ts'
import type { QuantizeEvent } from '../../src/quant/terms/report.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { tempDir } from '../helpers/temp-dir.ts'

const LLAMA = resolve(import.meta.dirname, '../../fixtures/tiny-llama')
const folder = tempDir()
let count = 0
const fresh = (): string => {
  const path = join(folder, String(count++))
  mkdirSync(path)
  return path
}

/** A run of three seconds or so, which notes where it is all the time. */
const OPTIONS: Omit<QuantizeOptions, 'output'> = {
  ...{
    model: LLAMA,
    calib: join(LLAMA, 'calib.txt'),
    scheme: parseScheme('w4a16g32'),
    lwc: true,
    let: true,
    augLoss: true,
  },
  ...{ samples: 6, seqLen: 32, epochs: 24, seed: 3, learningRate: 1e-2, schedule: 'cosine', accuracyLevel: 0 },
  ...{ threads: 1 },
}
const outputOf = (out: string): string => join(out, 'q.onnx')
const workOf = (out: string): string => join(out, '.q.onnx.omniquant')

/** Deterministic numbers from 0 to 1 (Park and Miller's generator). */
function random(seed: number): () => number {
  let state = seed
  return () => (state = (state * 48271) % 2147483647) / 2147483647
}

/** Runs in a process of its own, killed after so many milliseconds unless it ends before. @returns whether it was killed. */
async function killedAfter(ms: number, out: string): Promise<boolean> {
  const child = fork(resolve(import.meta.dirname, '../helpers/quantize-process.js'), {
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  child.send({ ...OPTIONS, output: outputOf(out) })
  const ended = once(child, 'exit') as Promise<[number | null, string | null]>
  // Loading takes a while in which nothing happens: moments count from the first word.
  await Promise.race([once(child, 'message'), ended])
  const [code, signal] = await Promise.race([ended, sleep(ms).then(() => (child.kill('SIGKILL'), ended))])
  if (signal === null) expect(code).toBe(0)
  return signal === 'SIGKILL'
}

test('20 kills at random moments: the same bytes', async () => {
  const alone = fresh()
  const started = performance.now()
  await killedAfter(1e6, alone)
  const took = performance.now() - started
  const expected = readFileSync(outputOf(alone))
  expect(readdirSync(alone).filter(name => name.startsWith('.'))).toEqual([])
  const next = random(20)
  for (let kills = 0; kills < 20;) {
    const out = fresh()
    while (await killedAfter(next() * took * 0.7, out)) {
      kills++
      // It may have been complete already: never anything in between.
      if (existsSync(outputOf(out))) expect(readFileSync(outputOf(out)).equals(expected)).toBe(true)
    }
    expect(readFileSync(outputOf(out)).equals(expected)).toBe(true)
    expect(readdirSync(out).filter(name => name.startsWith('.'))).toEqual([])
  }
})

/** Runs until block 1 is done, then throws; what was finished stays. */
async function untilBlock1(out: string, change: Partial<QuantizeOptions> = {}): Promise<void> {
  const onEvent = (event: QuantizeEvent) => {
    if (event.type === 'blockDone' && event.report.index === 1) throw new Error('enough')
  }
  await expect(quantizeModel({ ...OPTIONS, epochs: 1, ...change, output: outputOf(out) }, { onEvent })).rejects.toThrow(
    'enough',
  )
}
const goOn = (out: string, change: Partial<QuantizeOptions> = {}) =>
  quantizeModel({ ...OPTIONS, epochs: 1, ...change, output: outputOf(out) })

test('blocks that are finished are not made again, whether learned, rounded or replayed', async () => {
  const params = join(fresh(), 'learned.safetensors')
  await goOn(fresh(), { saveParams: params })
  for (const change of [{}, { lwc: false, let: false }, { params }] satisfies Partial<QuantizeOptions>[]) {
    const [out, whole] = [fresh(), fresh()]
    await untilBlock1(out, change)
    const made: number[] = []
    const options = { ...OPTIONS, epochs: 1, ...change, output: outputOf(out) }
    const report = await quantizeModel(options, {
      onEvent: event => event.type === 'blockDone' && !event.resumed && made.push(event.report.index),
    })
    expect(made).toEqual([2])
    expect(report.notes[0]).toBe('went on from an earlier run, which had finished 2 of 3 blocks')
    await goOn(whole, change)
    expect(readFileSync(outputOf(out)).equals(readFileSync(outputOf(whole)))).toBe(true)
  }
})

test.each<[string, string, (work: string) => void]>([
  [
    'a block that is damaged',
    'block-000.record is damaged',
    work => appendFileSync(join(work, 'block-000.record'), 'x'),
  ],
  ['hidden states that are cut off', 'float-002.f32 has ', work => truncateSync(join(work, 'float-002.f32'), 8)],
  [
    'a calibration text that is gone wrong',
    'calibration.record is cut off',
    work => truncateSync(join(work, 'calibration.record'), 9),
  ],
])('%s: one error, and --fresh starts over', async (_, message, damage) => {
  const [out, whole] = [fresh(), fresh()]
  await untilBlock1(out)
  damage(workOf(out))
  await expect(goOn(out)).rejects.toMatchObject({
    code: 'E_RESUME',
    message: expect.stringContaining(message) as string,
    hint: expect.stringContaining('`fresh: true`') as string,
  })
  await goOn(out, { fresh: true })
  await goOn(whole)
  expect(readFileSync(outputOf(out)).equals(readFileSync(outputOf(whole)))).toBe(true)
})

test('a source that changes during the run: one error; put back, the run goes on', async () => {
  const [source, out, whole] = [fresh(), fresh(), fresh()]
  cpSync(LLAMA, source, { recursive: true })
  const model = join(source, 'model.onnx')
  const onEvent = (event: QuantizeEvent) => {
    if (event.type === 'blockDone' && event.report.index === 1) appendFileSync(model, '\0')
  }
  await expect(
    quantizeModel({ ...OPTIONS, epochs: 1, model, output: outputOf(out) }, { onEvent }),
  ).rejects.toMatchObject({
    code: 'E_SOURCE_CHANGED',
    message: `${model} was changed or removed during the run`,
  })
  await expect(goOn(out, { model })).rejects.toMatchObject({
    code: expect.stringMatching(/E_RESUME|E_TRUNCATED|E_NOT_ONNX/) as string,
  })
  copyFileSync(join(LLAMA, 'model.onnx'), model)
  expect((await goOn(out, { model })).notes[0]).toContain('went on')
  await goOn(whole)
  expect(readFileSync(outputOf(out)).equals(readFileSync(outputOf(whole)))).toBe(true)
})

test.each<[string, (model: string) => void]>([
  ['overwritten in place, its time set back', overwriteInPlace],
  ['replaced by a copy', replaceByCopy],
])('a source that is %s while the result is written: one error, and no result', async (_, change) => {
  const [source, out, whole] = [fresh(), fresh(), fresh()]
  cpSync(LLAMA, source, { recursive: true })
  const model = join(source, 'model.onnx')
  const options = { ...OPTIONS, lwc: false, let: false }
  // It begins at once, and is not done before this.
  let changed = false
  const onEvent = (event: QuantizeEvent) => {
    if (event.type !== 'saving' || changed) return
    changed = true
    setImmediate(() => change(model))
  }
  await expect(quantizeModel({ ...options, model, output: outputOf(out) }, { onEvent })).rejects.toMatchObject({
    code: 'E_SOURCE_CHANGED',
    message: expect.stringContaining(model) as string,
  })
  expect(readdirSync(out)).toEqual(['.q.onnx.omniquant'])
  rmSync(model, { force: true })
  copyFileSync(join(LLAMA, 'model.onnx'), model)
  const again = await quantizeModel({ ...options, model, output: outputOf(out) })
  expect(again.notes[0]).toContain('finished 3 of 3 blocks')
  await quantizeModel({ ...options, output: outputOf(whole) })
  expect(readFileSync(outputOf(out)).equals(readFileSync(outputOf(whole)))).toBe(true)
})

/** Zeros over the weights; of what a file says of itself only ctime shows it. */
function overwriteInPlace(model: string): void {
  const { size, atime, mtime } = statSync(model)
  const file = openSync(model, 'r+')
  writeSync(file, new Uint8Array(size / 2), 0, size / 2, size / 4)
  closeSync(file)
  utimesSync(model, atime, mtime)
}

function replaceByCopy(model: string): void {
  cpSync(model, `${model}.copy`, { preserveTimestamps: true })
  renameSync(`${model}.copy`, model)
}

test('a calibration text that changes while it is read: one error', async () => {
  const [texts, out] = [fresh(), fresh()]
  const calib = join(texts, 'calib.txt')
  copyFileSync(OPTIONS.calib!, calib)
  const onEvent = (event: QuantizeEvent) => {
    if (event.type === 'working') appendFileSync(calib, 'more')
  }
  await expect(quantizeModel({ ...OPTIONS, calib, output: outputOf(out) }, { onEvent })).rejects.toMatchObject({
    code: 'E_SOURCE_CHANGED',
    message: `${calib} was changed or removed during the run`,
  })
  expect(readdirSync(out)).toEqual([])
})

test('what cannot be cleared up is a note of a run that succeeds, and hides no error of one that fails', async () => {
  const plant = (out: string) => (event: QuantizeEvent) => {
    // A folder where a file is to be removed.
    if (event.type === 'blockDone') mkdirSync(join(workOf(out), `float-10${event.report.index}.f32`))
    if (event.type === 'blockDone' && out === failing && event.report.index === 2) throw new Error('the first one')
  }
  const [out, failing] = [fresh(), fresh()]
  const options = { ...OPTIONS, lwc: false, let: false }
  const report = await quantizeModel({ ...options, output: outputOf(out) }, { onEvent: plant(out) })
  expect(report.notes).toContain(
    `could not remove float-100.f32, float-101.f32, float-102.f32 in ${workOf(out)}: remove that folder`,
  )
  const failed = quantizeModel({ ...options, output: outputOf(failing), fresh: true }, { onEvent: plant(failing) })
  await expect(failed).rejects.toThrow('the first one')
})
