/**
 * @file The process of the fuzzer's cases: `run-cases.ts FOLDER SEED FIRST END STEP`. A case may end it, so FOLDER/at holds its
 * position, and FOLDER/found its findings, one JSON object a line.
 */

import { appendFileSync, openSync, readdirSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { QuantError } from '../../src/errors.ts'
import { makeCase, type Outcome } from './cases.ts'
import { type Found, MAX_CASE_MS, MAX_RSS_BYTES } from './found.ts'

const [folder, ...numbers] = process.argv.slice(2) as [string, ...string[]]
const [seed, first, end, step] = numbers.map(Number) as [number, number, number, number]

const at = openSync(join(folder, 'at'), 'w')
const report = (found: Found): void => appendFileSync(join(folder, 'found'), `${JSON.stringify(found)}\n`)

/** Names below a folder. */
const contents = (path: string): string[] => (readdirSync(path, { recursive: true }) as string[]).sort()

const peakBytes = (): number => process.resourceUsage().maxRSS * 1024

async function runOnce(number: number): Promise<{ kind: string; outcome: Outcome | string; elapsedMs: number }> {
  const place = join(folder, 'case')
  const { kind, run } = makeCase(seed, number, place)
  const before = contents(place)
  // Time of the processor, not of the clock: the machine may be busy. The parent sees a case that waits for ever.
  const started = process.cpuUsage()
  let outcome: Outcome | string = 'accepted'
  try {
    await run()
  } catch (error) {
    const mistake = !(error instanceof QuantError) || error.code === 'E_INTERNAL'
    outcome = error instanceof QuantError && !mistake ? error.code : String((error as Error)?.stack ?? error)
    if (mistake) report({ case: number, kind, what: 'exception', detail: outcome })
  }
  const { user, system } = process.cpuUsage(started)
  const elapsedMs = (user + system) / 1000
  const left = contents(place).filter(name => !before.includes(name))
  if (left.length > 0) report({ case: number, kind, what: 'files left', detail: left.join(', ') })
  return { kind, outcome, elapsedMs }
}

const outcomes: Record<string, number> = {}
const slowest = { case: -1, kind: '', elapsedMs: 0 }
let count = 0
let peak = peakBytes()
for (let number = first; number < end; number += step) {
  writeSync(at, String(number).padEnd(12), 0)
  let result = await runOnce(number)
  // The first case of a kind compiles code for the others: a case is slow when it is slow twice.
  if (result.elapsedMs > MAX_CASE_MS) {
    const again = await runOnce(number)
    if (again.elapsedMs < result.elapsedMs) result = again
    if (result.elapsedMs > MAX_CASE_MS)
      report({ case: number, kind: result.kind, what: 'slow', detail: `${Math.round(result.elapsedMs)} ms` })
  }
  const { kind, outcome, elapsedMs } = result
  const key = `${kind.split('/')[0]} ${outcome.startsWith('E_') || outcome === 'accepted' ? outcome : 'exception'}`
  outcomes[key] = (outcomes[key] ?? 0) + 1
  if (elapsedMs > slowest.elapsedMs) Object.assign(slowest, { case: number, kind, elapsedMs: Math.round(elapsedMs) })
  const now = peakBytes()
  if (now > MAX_RSS_BYTES && now > peak * 1.02)
    report({ case: number, kind, what: 'memory', detail: `${Math.round(now / 2 ** 20)} MiB` })
  peak = Math.max(peak, now)
  count++
}
report({ case: -1, kind: '', what: 'done', detail: '', summary: { count, outcomes, slowest, peakBytes: peak } })
