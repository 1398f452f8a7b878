/**
 * @file Links that somebody planted under the names a run is going to use, and what they lead to: it is not touched. The run refuses, or
 * goes its way. Names are those that undisturbed runs use, so that the list cannot go stale; random ones nobody can plant.
 * OMNIQUANT_ALL_FAULTS=1 plants everything under every name, instead of two things.
 */

import { linkSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, relative } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { tempDir } from '../helpers/temp-dir.ts'
import { relativeWorkDir } from './judge.ts'
import { differences, Place, type Snapshot, snapshot, type Way } from './scene.ts'
import type { Call } from './worker-process.ts'

const ALL = process.env.OMNIQUANT_ALL_FAULTS !== undefined
const place = new Place(tempDir())

/** Ways in which a name leads to a file of the victim. */
const PLANTS: Readonly<Record<string, (path: string) => void>> = {
  'a link to a file': path => symlinkSync(place.path('victim/file.txt'), path),
  'a link to a folder': path => symlinkSync(place.path('victim/folder'), path),
  'a link to an empty folder': path => symlinkSync(place.path('victim/empty'), path),
  'a link to nothing': path => symlinkSync(place.path('victim/absent'), path),
  'a second name of a file': path => linkSync(place.path('victim/file.txt'), path),
}

/** Files whose names look like those of a work folder. */
const VICTIMS = ['file.txt', 'folder/thesis.tmp', 'folder/block-000.record', 'folder/float-000.f32', 'folder/lock']

/** Names as of today, for names that no run shows. */
const FORESEEABLE: Readonly<Record<Way, readonly string[]>> = {
  rounding: [
    ...['out/.q.onnx.tmp', 'out/.q.onnx_data.tmp', 'out/.q.onnx_data.tmp.old', 'out/.q.onnx.omniquant'],
    ...['out/.q.onnx.omniquant/lock.1', 'out/.q.onnx.omniquant/run.record', 'out/.q.onnx.omniquant/.run.record.tmp'],
    ...['out/.q.onnx.omniquant/block-000.record', 'out/q.onnx', 'out/q.onnx_data', 'out/tokenizer.json'],
    ...['out/.q.onnx.lock.1', 'out/.q.onnx.lock.2', 'out/config.json'],
  ],
  learning: ['params/learned.safetensors', 'params/.learned.safetensors.tmp', 'work/run'],
}

/** Names of files in the folder that the run makes for itself. */
const IN_WORK = ['lock.1', 'lock.2', 'run.record', 'calibration.record', 'float-000.f32', 'block-000.record']

const isRandom = (path: string): boolean => /\.[0-9a-f]{16}\.(tmp|old)$/.test(path)

interface Known {
  readonly names: readonly string[]
  readonly before: Snapshot
  readonly after: Snapshot
  readonly workDir: string
}
const known = new Map<string, Known>()

/** Names that calls make, change or remove, below the case's folder. */
function namesOf(calls: readonly Call[]): string[] {
  const paths = calls.flatMap(({ kind, writes, path, to }) => {
    if (to !== undefined) return [to, ...(kind === 'rename' ? [path!] : [])]
    return writes || kind === 'remove' ? [path!] : []
  })
  return paths.map(path => relative(place.folder, path)).filter(path => path.includes('/') && !isRandom(path))
}

async function learn(name: string, way: Way, template: string): Promise<void> {
  place.restore(template)
  const before = snapshot(place.folder)
  const outcome = await place.expectDone({ options: place.options(way) })
  const folders = new Set([...before].filter(([, content]) => content === 'folder').map(([path]) => path))
  const workDir = relativeWorkDir(place.folder, outcome)
  const inWork = [workDir, ...IN_WORK.map(file => `${workDir}/${file}`)]
  const names = new Set([...namesOf(outcome.calls), ...FORESEEABLE[way], ...inWork].filter(path => !folders.has(path)))
  known.set(name, { names: [...names].sort(), before, after: snapshot(place.folder), workDir })
}

beforeAll(async () => {
  await place.prepare()
  for (const victim of VICTIMS) {
    mkdirSync(dirname(place.path(`victim/${victim}`)), { recursive: true })
    writeFileSync(place.path(`victim/${victim}`), `${victim} of a victim`)
  }
  mkdirSync(place.path('victim/empty'))
  place.keep('victims')
  place.restore('victims')
  await place.run({ options: place.options('rounding'), at: { blockDone: 'die' } })
  place.keep('killed')
  await learn('rounding', 'rounding', 'victims')
  await learn('going on', 'rounding', 'killed')
  await learn('learning', 'learning', 'victims')
})
afterAll(() => place.close())

const isIn = (path: string, folder: string): boolean => path === folder || path.startsWith(`${folder}/`)

/** Runs with a link planted at `name`. @returns the errors. */
async function planted(template: string, way: Way, run: Known, name: string, plant: (path: string) => void) {
  place.restore(template)
  const path = place.path(name)
  mkdirSync(dirname(path), { recursive: true })
  rmSync(path, { recursive: true, force: true })
  plant(path)
  const before = snapshot(place.folder)
  const outcome = await place.run({ options: place.options(way) })
  const now = snapshot(place.folder)
  const wrong = differences(before, now)
    .filter(changed => isIn(changed, 'victim'))
    .map(changed => `${changed} was ${now.has(changed) ? (before.has(changed) ? 'changed' : 'made') : 'removed'}`)
  // A run that is refused has looked for others before, and cleared the locks of those that are dead.
  const isDeadLock = (changed: string) => /^out\/\.q\.onnx\.lock\.\d+$/.test(changed) && !now.has(changed)
  // Folders above the planted name are there before the run, which leaves them then.
  const isAbove = (changed: string) => isIn(name, changed) && now.get(changed) === 'folder'
  const mine = (changed: string) =>
    isIn(changed, 'victim') ||
    isIn(changed, name) ||
    isIn(changed, run.workDir) ||
    isDeadLock(changed) ||
    isAbove(changed)
  if (outcome.type === 'error') {
    const { known, code, message } = outcome.error
    if (!known || code === 'E_INTERNAL') wrong.push(`${code ?? 'not a QuantError'}: ${message}`)
    for (const changed of differences(before, now))
      if (!mine(changed)) wrong.push(`refused, and ${changed} was changed`)
  } else if (outcome.type === 'done') {
    for (const changed of differences(run.after, now)) if (!mine(changed)) wrong.push(`done, and ${changed} is wrong`)
    // Files that are there already stay: they are the user's. Outputs are not written through links.
    const isOutput = /^(out\/q\.onnx|params\/learned)/.test(name) && run.after.has(name)
    if (isOutput && now.get(name) !== run.after.get(name)) wrong.push(`done, and ${name} is not the output`)
  } else wrong.push(JSON.stringify(outcome))
  return wrong
}

const CASES: readonly [string, Way, string, (path: string) => boolean, readonly string[]][] = [
  ['rounding', 'rounding', 'victims', () => true, Object.keys(PLANTS)],
  ['going on', 'rounding', 'killed', path => path.includes('omniquant'), ['a link to a file', 'a link to a folder']],
  // Names of both ways were planted before.
  ['learning', 'learning', 'victims', path => !path.startsWith('out/'), ['a link to a file', 'a link to a folder']],
]

test.each(CASES)(
  '%s: what links lead to is not touched',
  // All plants take an hour.
  ALL ? { timeout: 4 * 3600_000 } : {},
  async (name, way, template, isAsked, plants) => {
    const run = known.get(name)!
    const names = run.names.filter(isAsked)
    expect(names.length).toBeGreaterThan(4)
    const told: string[] = []
    let count = 0
    for (const [i, path] of names.entries()) {
      // The first, and one of the others in turn.
      const some = [plants[0]!, plants[1 + (i % (plants.length - 1))]!]
      for (const plant of ALL ? plants : some) {
        count++
        const wrong = await planted(template, way, run, path, PLANTS[plant]!)
        if (wrong.length > 0) told.push([`${path}: ${plant}`, ...wrong.map(line => `    ${line}`)].join('\n'))
      }
    }
    if (told.length > 0) expect.fail([`${told.length} of ${count} links`, ...told].join('\n'))
  },
)
