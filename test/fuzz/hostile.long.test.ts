/**
 * @file Thousands of damaged models, tokenizers, tokens, parameters and configurations: each is accepted or refused with a message.
 * Cases run in processes of their own, because a hostile graph may end one. A failure names its case, which can be run alone:
 *
 *     OMNIQUANT_FUZZ_SEED=1 OMNIQUANT_FUZZ_CASES=100000 npx vitest run test/fuzz     other cases, and more of them
 *     OMNIQUANT_FUZZ_SEED=1 OMNIQUANT_FUZZ_ONLY=1234 npx vitest run test/fuzz        case 1234 alone
 */

import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { tempDir } from '../helpers/temp-dir.ts'
import { type Found, MAX_CASE_MS, type Summary } from './found.ts'

const number = (name: string, fallback: number): number => Number(process.env[`OMNIQUANT_FUZZ_${name}`] ?? fallback)

const SEED = number('SEED', 1)
const ONLY = number('ONLY', NaN)
const [FIRST, END] = Number.isNaN(ONLY) ? [0, number('CASES', 4_000)] : [ONLY, ONLY + 1]
const PROCESSES = 2
/** Longest time without progress, for what hangs. The machine may be busy with other things, and the first case waits for a start. */
const HANG_MS = 300 * MAX_CASE_MS
/** Time limit of the test: a hundred times what a case takes on an idle core. */
const LIMIT_MS = Math.max(1_800_000, (END - FIRST) * 1500)

const folder = tempDir()

interface Ended {
  readonly found: Found[]
  /** Case and phase the process stopped at; undefined when it reached its end. */
  readonly diedAt: number | undefined
}

/** Runs cases `first`, `first` + `step`, ... in a process, and checks that it makes progress. */
async function runProcess(place: string, first: number, step: number): Promise<Ended> {
  mkdirSync(place, { recursive: true })
  const args = ['--import', './test/fuzz/typescript.js', 'test/fuzz/run-cases.ts', place, SEED, first, END, step].map(
    String,
  )
  const child = spawn(process.execPath, args, {
    cwd: resolve(import.meta.dirname, '../..'),
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let said = ''
  child.stderr.on('data', (chunk: Buffer) => (said = (said + chunk.toString()).slice(-2000)))
  const at = () => (existsSync(join(place, 'at')) ? Number(readFileSync(join(place, 'at'), 'utf8') || first) : first)
  let [last, since, hangs] = [first, Date.now(), false]
  const watch = setInterval(() => {
    if (at() !== last) [last, since] = [at(), Date.now()]
    else if (Date.now() - since > HANG_MS) {
      hangs = true
      child.kill('SIGKILL')
    }
  }, 250)
  const status = await new Promise<string>(done => child.on('close', (code, signal) => done(String(signal ?? code))))
  clearInterval(watch)
  const path = join(place, 'found')
  const lines = existsSync(path) ? readFileSync(path, 'utf8').trimEnd().split('\n') : []
  const found = lines.map(line => JSON.parse(line) as Found)
  if (status === '0') return { found, diedAt: undefined }
  const detail = hangs ? `no end after ${HANG_MS} ms` : `${status}: ${said}`
  return { found: [...found, { case: at(), kind: '', what: hangs ? 'hang' : 'crash', detail }], diedAt: at() }
}

/** Runs all cases of one share. A process that dies is followed by another. */
async function runShare(share: number): Promise<Found[]> {
  const found: Found[] = []
  for (let first = FIRST + share, part = 0; first < END; part++) {
    const ended = await runProcess(join(folder, `${share}-${part}`), first, PROCESSES)
    found.push(...ended.found)
    if (ended.diedAt === undefined) break
    first = ended.diedAt + PROCESSES
  }
  return found
}

function summaryOf(parts: readonly Summary[]): Omit<Summary, 'outcomes'> & { outcomes: Record<string, number> } {
  const outcomes: Record<string, number> = {}
  for (const part of parts)
    for (const [key, count] of Object.entries(part.outcomes)) outcomes[key] = (outcomes[key] ?? 0) + count
  const slowest = parts.map(part => part.slowest).reduce((a, b) => (a.elapsedMs > b.elapsedMs ? a : b))
  return {
    count: parts.reduce((sum, part) => sum + part.count, 0),
    outcomes: Object.fromEntries(Object.entries(outcomes).sort(([a], [b]) => (a < b ? -1 : 1))),
    slowest,
    peakBytes: Math.max(...parts.map(part => part.peakBytes)),
  }
}

test(
  'damaged files are accepted or refused: no crash, no hang, no file left behind',
  async () => {
    const shares = await Promise.all(Array.from({ length: PROCESSES }, (_, share) => runShare(share)))
    const found = shares.flat().filter(({ what }) => what !== 'done')
    const summary = summaryOf(shares.flat().flatMap(({ summary: part }) => part ?? []))
    process.stdout.write(`fuzzer, seed ${SEED}: ${JSON.stringify(summary, undefined, 1)}\n`)
    expect(found.map(each => `seed ${SEED} case ${each.case} ${each.kind}: ${each.what}: ${each.detail}`)).toEqual([])
    expect(summary.count).toBe(END - FIRST)
    if (Number.isNaN(ONLY) && END >= 1000) {
      // A fuzzer would test nothing if every case were refused at once, or none.
      const share = (outcome: string) => (summary.outcomes[`model ${outcome}`] ?? 0) / (END - FIRST)
      expect(share('accepted')).toBeGreaterThan(0.05)
      expect(share('E_NOT_ONNX')).toBeGreaterThan(0.1)
      expect(share('E_UNSUPPORTED')).toBeGreaterThan(0.02)
    }
  },
  LIMIT_MS,
)
