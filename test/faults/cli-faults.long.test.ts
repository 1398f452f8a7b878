/**
 * @file Faults on the command line: the working process dies or its disk fails. The files stay right, and there is one error and
 * its exit code. This takes a few points; faults.long.test.ts has the many.
 */

import { spawn } from 'node:child_process'
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { tempDir } from '../helpers/temp-dir.ts'
import { afterFault, afterRerun, relativeWorkDir, type Undisturbed } from './judge.ts'
import { allPoints, describePoint, type Point } from './points.ts'
import { Place, snapshot } from './scene.ts'
import type { Call, Outcome, Step } from './worker-process.ts'

const root = tempDir()
const place = new Place(root)
const BIN = resolve(import.meta.dirname, '../../bin/omniquant.js')
const INJECT = pathToFileURL(resolve(import.meta.dirname, 'inject.js')).href
const LOG = join(root, 'calls.json')

interface Ended {
  readonly exitCode: number | null
  readonly stderr: string
  readonly outcome: Outcome
}

/** Runs `omniquant quantize --json` with faults in the working process. */
async function runCli(plan: readonly Step[]): Promise<Ended> {
  const { model, calib, output, scheme, samples, seqLen } = place.options('rounding')
  const args = [
    'quantize',
    model,
    '-o',
    output!,
    '--scheme',
    String(scheme),
    '--calib',
    calib!,
    '--no-lwc',
    '--no-let',
    '--no-check',
    '--force',
    '--json',
  ]
  const numbers = ['--samples', String(samples), '--seq-len', String(seqLen), '--threads', '1']
  rmSync(LOG, { force: true })
  const child = spawn(process.execPath, [BIN, ...args, ...numbers], {
    env: {
      ...{ ...process.env, OMNIQUANT_DEBUG: '', NODE_OPTIONS: `--import=${INJECT}` },
      OMNIQUANT_FAULTS: JSON.stringify({ process: 'engine/process.js', plan, log: LOG }),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let [stdout, stderr] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  const exitCode = await new Promise<number | null>(done => child.on('close', done))
  const calls = existsSync(LOG) ? (JSON.parse(readFileSync(LOG, 'utf8')) as Call[]) : []
  const { error } = JSON.parse(stdout) as { error?: { code: string; message: string; hint?: string } }
  if (error === undefined) return { exitCode, stderr, outcome: { type: 'done', calls, began: 0 } }
  if (error.code === 'E_ENGINE') return { exitCode, stderr, outcome: { type: 'killed' } }
  return { exitCode, stderr, outcome: { type: 'error', calls, error: { known: true, causes: [], ...error } } }
}

beforeAll(async () => {
  await place.prepare()
})
afterAll(() => place.close())

/** Points: the last call of some kinds, where most is at stake, and the last call that gives the model its name. */
function choosePoints(calls: readonly Call[]): Point[] {
  const naming = calls.findLast(({ kind, to }) => kind === 'rename' && to === place.path('out/q.onnx'))
  const last = (kind: string) => calls.findLast(call => call.kind === kind)?.n
  const wanted: [number | undefined, Step['action']][] = [
    [naming?.n, 'die'],
    [naming?.n, 'fail'],
    [last('copy'), 'half-die'],
    [last('write'), 'full'],
    [last('remove'), 'die'],
  ]
  for (const kind of ['sync', 'write', 'make', 'remove']) wanted.push([last(kind), 'fail'])
  const points = allPoints(calls)
  return wanted.flatMap(([at, action]) => points.find(point => point.at === at && point.action === action) ?? [])
}

test('the command line tells of what happened, and goes on', async () => {
  place.restore('base')
  const before = snapshot(place.folder)
  const { outcome, exitCode } = await runCli([])
  if (outcome.type !== 'done') throw new Error(`an undisturbed run ended so: ${JSON.stringify(outcome)}`)
  expect(exitCode).toBe(0)
  const after = snapshot(place.folder)
  place.restore('base')
  const workDir = relativeWorkDir(place.folder, await place.expectDone({ options: place.options('rounding') }))
  const run: Undisturbed = { calls: outcome.calls, before, after, workDir }
  const points = choosePoints(run.calls)
  expect(points.length).toBeGreaterThan(5)
  const told: string[] = []
  for (const point of points) {
    place.restore('base')
    const { at, action, code } = point
    const ended = await runCli([{ at, action, code }])
    const wrong = afterFault(run, point, ended.outcome, snapshot(place.folder))
    const failed = ended.outcome.type !== 'done'
    if (ended.exitCode !== (failed ? 1 : 0)) wrong.push(`exit code ${ended.exitCode}`)
    const errors = ended.stderr.match(/^error: /gm)?.length ?? 0
    if (errors !== (failed ? 1 : 0)) wrong.push(`${errors} errors are told:\n${ended.stderr}`)
    wrong.push(...afterRerun(run, (await runCli([])).outcome, snapshot(place.folder)))
    if (wrong.length > 0)
      told.push([describePoint(point, place.folder), ...wrong.map(line => `    ${line}`)].join('\n'))
  }
  if (told.length > 0) expect.fail([`${told.length} of ${points.length} points`, ...told].join('\n'))
})
