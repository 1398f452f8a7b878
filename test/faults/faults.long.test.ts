/**
 * @file Every fault at every call of the file system. Files of others stay unchanged, the output is the old one, the new one or
 * none, the error says what happened, and the same command goes on to the same bytes.
 *
 * About 200 points by default; OMNIQUANT_ALL_FAULTS=1 takes all of them (some 8600: hours), OMNIQUANT_FAULT="rounding 57 fail EIO"
 * one.
 */

import { dirname, join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { tempDir } from '../helpers/temp-dir.ts'
import { afterFault, afterRerun, relativeWorkDir, type Undisturbed } from './judge.ts'
import { allPoints, choosePoints, describePoint, type Point } from './points.ts'
import { Place, snapshot, type Way } from './scene.ts'
import type { Call, TaskOptions } from './worker-process.ts'
import { unless } from '../helpers/unless.ts'

const ALL = process.env.OMNIQUANT_ALL_FAULTS !== undefined
const ONE = process.env.OMNIQUANT_FAULT?.split(' ')
const LANES = 2
/** All points take hours. */
const LIMIT = ALL ? { timeout: 4 * 3600_000 } : {}
const root = tempDir()
const places = Array.from({ length: LANES }, (_, i) => new Place(join(root, String(i))))

interface Variant {
  readonly template: string
  readonly way: Way
  /** Number of points, unless all are taken. */
  readonly count: number
}

const VARIANTS: Readonly<Record<string, Variant>> = {
  rounding: { template: 'base', way: 'rounding', count: 110 },
  learning: { template: 'base', way: 'learning', count: 50 },
  /** Folders after a process that was killed behind its first block. */
  resumed: { template: 'killed', way: 'learning', count: 40 },
}

beforeAll(async () => {
  for (const place of places) {
    await place.prepare()
    place.restore('base')
    await place.run({ options: place.options('learning'), at: { blockDone: 'die' } })
    place.keep('killed')
  }
})
afterAll(() => Promise.all(places.map(place => place.close())))

/** Runs without a fault from `template`, and counts the calls. */
async function undisturbed(place: Place, template: string, options: TaskOptions): Promise<Undisturbed> {
  place.restore(template)
  const before = snapshot(place.folder)
  const outcome = await place.expectDone({ options })
  const after = snapshot(place.folder)
  return { calls: outcome.calls, before, after, workDir: relativeWorkDir(place.folder, outcome) }
}

/** Names of the output that could be lost with the power when the first finished block is removed: nothing waited for their folder. */
function unsynced(calls: readonly Call[], out: string): string[] {
  const tidying = calls.find(({ kind, path }) => kind === 'remove' && /\/(run|block-\d+)\.record$/.test(path!))!
  const named = calls.filter(
    ({ kind, to, n }) => kind === 'rename' && to !== undefined && dirname(to) === out && n < tidying.n,
  )
  const last = calls.findLast(({ kind, path, n }) => kind === 'sync' && path === out && n < tidying.n)
  return named.filter(({ n }) => n > (last?.n ?? -1)).map(({ to }) => to!)
}

/** Errors after the fault, and after the same command without it. */
async function disturb(place: Place, template: string, options: TaskOptions, run: Undisturbed, point: Point) {
  place.restore(template)
  const { call, ...step } = point
  const outcome = await place.run({ options, plan: [step] })
  const wrong = afterFault(run, point, outcome, snapshot(place.folder))
  if (point.action === 'fail-forever') await place.newProcess() // its lock cannot be removed while the process lives
  let again = await place.run({ options })
  // A lock that could not be removed goes with its process.
  const locked = again.type === 'error' && again.error.code === 'E_RESUME' && call.kind !== 'write'
  if (locked && ['remove', 'stat', 'list', 'close'].includes(call.kind)) {
    await place.newProcess()
    again = await place.run({ options })
  }
  wrong.push(...afterRerun(run, again, snapshot(place.folder)))
  const stray = place.stray()
  if (stray.length > 0) wrong.push(`files elsewhere: ${stray.join(', ')}`)
  return wrong
}

const isAsked = (name: string, { at, action, code }: Point): boolean =>
  ONE === undefined || ONE.join(' ') === [name, at, action, ...(code ? [code] : [])].join(' ')

for (const [name, { template, way, count }] of Object.entries(VARIANTS)) {
  const isAskedFor = ONE === undefined || ONE[0] === name
  const options = { ...unless(isAskedFor ? undefined : 'OMNIQUANT_FAULT asks for another'), ...LIMIT }
  test(`${name}: any call fails, or is the last`, options, async () => {
    const runs = await Promise.all(places.map(place => undisturbed(place, template, place.options(way))))
    const [{ calls }, { folder }] = [runs[0]!, places[0]!]
    expect(calls.filter(({ path }) => path !== undefined && !path.startsWith(folder))).toEqual([])
    const out = join(folder, 'out')
    expect(calls.some(({ kind, to }) => kind === 'rename' && to === join(out, 'q.onnx'))).toBe(true)
    expect(unsynced(calls, out)).toEqual([])
    const points = allPoints(calls)
    const chosen = ALL || ONE ? points.filter(point => isAsked(name, point)) : choosePoints(points, count, folder)
    expect(chosen.length).toBeGreaterThan(0)

    const queue = [...chosen]
    const wrong: { readonly at: number; readonly text: string }[] = []
    const lane = async (place: Place, i: number) => {
      for (let point = queue.shift(); point; point = queue.shift()) {
        const found = await disturb(place, template, place.options(way), runs[i]!, point)
        const text = [describePoint(point, folder), ...found.map(line => `    ${line}`)].join('\n')
        if (found.length > 0) wrong.push({ at: point.at, text })
      }
    }
    await Promise.all(places.map(lane))
    const figures = `${wrong.length} of ${chosen.length} points (${calls.length} calls, ${points.length} points in all)`
    const told = wrong.sort((a, b) => a.at - b.at).map(({ text }) => text)
    if (told.length > 0) expect.fail([figures, ...told].join('\n'))
  })
}
