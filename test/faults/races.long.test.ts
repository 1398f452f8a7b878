/**
 * @file Runs on one output at the same time, in a forced order of steps: one works, the others refuse, and the result is right. A
 * process waits at a call until the test lets it go on. OMNIQUANT_ALL_FAULTS=1 tries every call instead of some.
 */

import { symlinkSync } from 'node:fs'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { tempDir } from '../helpers/temp-dir.ts'
import { differences, Place, type Snapshot, snapshot } from './scene.ts'
import type { Call, FaultWorker, Outcome, Step, TaskOptions } from './worker-process.ts'

const ALL = process.env.OMNIQUANT_ALL_FAULTS !== undefined
const SOME = 5
const place = new Place(tempDir())
const options = place.options('rounding')
const workers: FaultWorker[] = []
/** Output of an undisturbed run. */
let expected: Snapshot

beforeAll(async () => {
  await place.prepare()
  place.restore('base')
  await place.run({ options, at: { blockDone: 'die' } })
  place.keep('killed')
  place.restore('base')
  await place.expectDone({ options })
  expected = snapshot(place.folder)
})
beforeEach(async () => {
  for (let i = 0; i < 3; i++) {
    if (workers[i]?.idle) continue
    await workers[i]?.kill()
    workers[i] = place.newWorker()
  }
})
afterAll(() => Promise.all([place.close(), ...workers.map(worker => worker.kill())]))

/** A run that waits at the call `at`, if given, and always when it holds the output and begins to work. */
class Runner {
  readonly outcome: Promise<Outcome>
  working = false
  ended = false
  private readonly worker: FaultWorker

  constructor(worker: FaultWorker, at?: number, task: TaskOptions = options) {
    this.worker = worker
    const plan: Step[] = at === undefined ? [] : [{ at, action: 'stop' }]
    this.outcome = worker.run({ options: task, plan, at: { began: 'stop' } }).finally(() => (this.ended = true))
  }

  /** Waits until the run waits somewhere or has ended. */
  async wait(): Promise<void> {
    const stop = await this.worker.stopped(this.outcome)
    this.working = stop === 'began'
  }

  /** Lets the run go on to its next stop. */
  async step(): Promise<void> {
    if (this.ended || this.working) return
    this.worker.go()
    await this.wait()
  }

  async finish(): Promise<Outcome> {
    while (!this.ended) {
      this.worker.go()
      await this.wait()
    }
    return await this.outcome
  }
}

/** Lets all working runs finish. @returns the errors, when exactly one should have worked. */
async function finished(runners: readonly Runner[]): Promise<string[]> {
  const wrong: string[] = []
  const working = runners.filter(runner => runner.working).length
  if (working !== 1) wrong.push(`${working} of ${runners.length} work at the same time`)
  for (const runner of runners) {
    const worked = runner.working
    const outcome = await runner.finish()
    if (worked && outcome.type !== 'done') wrong.push(`the one that works ended so: ${told(outcome)}`)
    if (!worked && !(outcome.type === 'error' && outcome.error.known && outcome.error.code === 'E_RESUME'))
      wrong.push(`another one ended so: ${told(outcome)}`)
  }
  return [...wrong, ...differences(expected, snapshot(place.folder)).map(path => `${path} is not as it should be`)]
}

const told = (outcome: Outcome): string =>
  outcome.type === 'error' ? `${outcome.error.code} ${outcome.error.message}` : outcome.type

/** Calls up to the last one for a lock before work begins, but for those that read the source: where runs learn of each other. */
async function callsOfStart(template: string): Promise<Call[]> {
  place.restore(template)
  const runner = new Runner(workers[0]!)
  await runner.wait()
  const outcome = await runner.finish()
  if (outcome.type !== 'done') throw new Error(`an undisturbed run ended so: ${told(outcome)}`)
  const source = place.path('source')
  const early = outcome.calls.slice(0, outcome.began)
  const last = early.findLast(({ path }) => /lock(\.\d+)?$/.test(path!))
  return early.filter(({ n, path }) => n <= (last?.n ?? 0) && !path!.startsWith(source))
}

/** An even choice of calls, or all of them if asked for. */
function choose<T>(items: readonly T[], count = SOME): T[] {
  if (ALL || items.length <= count) return [...items]
  return Array.from({ length: count }, (_, i) => items[Math.floor((i * items.length) / count)]!)
}

const describe = ({ n, name, path }: Call): string => `${n} ${name} ${path!.replace(`${place.folder}/`, '')}`

/** Tries orders of steps and reports the errors of each. */
async function each<T>(cases: readonly T[], name: (item: T) => string, attempt: (item: T) => Promise<string[]>) {
  const wrong: string[] = []
  for (const item of cases) {
    const found = await attempt(item)
    if (found.length > 0) wrong.push([name(item), ...found.map(line => `    ${line}`)].join('\n'))
  }
  if (wrong.length > 0) expect.fail([`${wrong.length} of ${cases.length} orders`, ...wrong].join('\n'))
}

/** All calls take an hour. */
const LIMIT = ALL ? { timeout: 4 * 3600_000 } : {}

/** Starts: empty folders, and the lock of a killed process, which is to be taken over. */
const TEMPLATES: readonly [string, string][] = [
  ['a new output', 'base'],
  ['the lock of a dead process', 'killed'],
]

test.each(TEMPLATES)('%s: three that stand at the same call go on at once', LIMIT, async (_, template) => {
  await each(choose(await callsOfStart(template)), describe, async ({ n }) => {
    place.restore(template)
    const runners = workers.map(worker => new Runner(worker, n))
    await Promise.all(runners.map(runner => runner.wait()))
    await Promise.all(runners.map(runner => runner.step()))
    return await finished(runners)
  })
})

test.each(TEMPLATES)('%s: three that stand at the same call go on one after the other', LIMIT, async (_, template) => {
  await each(choose(await callsOfStart(template)), describe, async ({ n }) => {
    place.restore(template)
    const runners = workers.map(worker => new Runner(worker, n))
    await Promise.all(runners.map(runner => runner.wait()))
    for (const runner of runners) await runner.step()
    return await finished(runners)
  })
})

test.each(TEMPLATES)('%s: one comes while another stands at a call', LIMIT, async (_, template) => {
  await each(choose(await callsOfStart(template), 2 * SOME), describe, async ({ n }) => {
    place.restore(template)
    const first = new Runner(workers[0]!, n)
    await first.wait()
    const second = new Runner(workers[1]!)
    await second.wait()
    await first.step()
    return await finished([second, first])
  })
})

test.each(TEMPLATES)('%s: two stand at different calls', LIMIT, async (_, template) => {
  const calls = await callsOfStart(template)
  const pairs = calls.flatMap(a => calls.filter(b => b.n !== a.n).map(b => [a, b] as const))
  await each(
    choose(pairs, 2 * SOME),
    ([a, b]) => `${describe(a)} and ${describe(b)}`,
    async ([a, b]) => {
      place.restore(template)
      const runners = [new Runner(workers[0]!, a.n), new Runner(workers[1]!, b.n)]
      for (const runner of runners) await runner.wait()
      for (const runner of runners) await runner.step()
      return await finished(runners)
    },
  )
})

test('one that dies while it takes over a lock is taken over itself', LIMIT, async () => {
  await each(choose(await callsOfStart('killed')), describe, async ({ n }) => {
    place.restore('killed')
    await place.newProcess()
    await place.run({ options, plan: [{ at: n, action: 'die' }] })
    const runners = workers.map(worker => new Runner(worker))
    for (const runner of runners) await runner.wait()
    return await finished(runners)
  })
})

/** Other commands that end in the same file. */
const OTHER_WAYS: readonly [string, () => [TaskOptions, TaskOptions]][] = [
  [
    'different work folders',
    () => [
      { ...options, workDir: place.path('a') },
      { ...options, workDir: place.path('b') },
    ],
  ],
  ['one with a work folder of its own', () => [options, { ...options, workDir: place.path('b') }]],
  ['the other one with a work folder of its own', () => [{ ...options, workDir: place.path('a') }, options]],
  [
    'a link to the folder of the output, and other work folders',
    () => [
      { ...options, workDir: place.path('a') },
      { ...options, workDir: place.path('b'), output: place.path('elsewhere/q.onnx') },
    ],
  ],
  ['a link to the folder of the output', () => [options, { ...options, output: place.path('elsewhere/q.onnx') }]],
  ['another scheme', () => [options, { ...options, scheme: 'w8a16g32' }]],
  ['--fresh', () => [options, { ...options, fresh: true }]],
]

test.each(OTHER_WAYS)('two runs on one output: %s', LIMIT, async (_, ways) => {
  const [one, other] = ways()
  place.restore('base')
  const linked = other.output !== options.output
  if (linked) symlinkSync(place.path('out'), place.path('elsewhere'))
  const first = new Runner(workers[0]!, undefined, one)
  await first.wait()
  const second = new Runner(workers[1]!, undefined, other)
  await second.wait()
  const wrong = await finished([first, second])
  expect(wrong.filter(line => !(linked && line.startsWith('elsewhere ')))).toEqual([])
})

test('two runs on two outputs in one folder do not wait for each other', LIMIT, async () => {
  place.restore('base')
  const outputs = ['out/q.onnx', 'out/r.onnx'].map(name => place.path(name))
  const runners = outputs.map((output, i) => new Runner(workers[i]!, undefined, { ...options, output }))
  for (const runner of runners) await runner.wait()
  const outcomes = await Promise.all(runners.map(runner => runner.finish()))
  expect(outcomes.map(outcome => (outcome.type === 'error' ? JSON.stringify(outcome.error) : outcome.type))).toEqual([
    'done',
    'done',
  ])
  const now = snapshot(place.folder)
  expect(now.get('out/q.onnx')).toBe(expected.get('out/q.onnx'))
  expect([...now.keys()].filter(path => !expected.has(path)).sort()).toEqual(['out/r.onnx', 'out/r.onnx_data'])
})
