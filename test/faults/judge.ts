/** @file Checks after a run with a fault, and after the same command was given again. */

import { relative } from 'node:path'
import type { Point } from './points.ts'
import { differences, type Snapshot } from './scene.ts'
import type { Call, Outcome } from './worker-process.ts'

/** A run without faults. */
export interface Undisturbed {
  readonly calls: readonly Call[]
  readonly before: Snapshot
  readonly after: Snapshot
  /** Work folder, relative to the folder of the case. */
  readonly workDir: string
}

const isIn = (path: string, folder: string): boolean => path === folder || path.startsWith(`${folder}/`)
const isHidden = (path: string): boolean => path.split('/').some(part => part.startsWith('.'))

/** Faults after which no code could tidy up. */
const leavesAll = ({ action }: Point): boolean => ['die', 'half-die', 'fail-forever'].includes(action)

/** Calls that tidy up or ask what is there. When they fail, files may be left, and success is still success. */
const isTidying = ({ kind }: Call): boolean => ['remove', 'stat', 'list', 'close'].includes(kind)

/** Calls that report the fate of written bytes. Code that ignores their errors calls a run done whose bytes are not on the disk. */
const tellsOfBytes = ({ kind }: Call): boolean => ['write', 'sync', 'rename', 'copy', 'truncate'].includes(kind)

const MODEL = 'out/q.onnx'

/** State of the output: "old", "new", "none" when there is no model, or an error. */
export function stateOf({ before, after }: Undisturbed, now: Snapshot, strict: boolean): string {
  const names = [...new Set([...before.keys(), ...after.keys()])].filter(
    path => path.startsWith('out/') && !isHidden(path) && before.get(path) !== after.get(path),
  )
  if (names.every(name => now.get(name) === after.get(name))) return 'new'
  // Names that were not there before say nothing of the old model: new files may come before the old model goes.
  const old = names.filter(name => before.has(name))
  if (old.every(name => now.get(name) === before.get(name))) {
    const early = names.filter(name => !before.has(name) && now.has(name))
    const partial = early.filter(name => now.get(name) !== after.get(name))
    if (partial.length > 0) return `incomplete ${partial.join(', ')}`
    return strict && early.length > 0 ? `${early.join(', ')} of the new output beside the old one` : 'old'
  }
  const shown = names.map(name => {
    const content = now.get(name)
    const word = content === after.get(name) ? 'new' : content === before.get(name) ? 'old' : 'incomplete'
    return `${name} ${content === undefined ? 'absent' : word}`
  })
  if (!now.has(MODEL) && !shown.some(text => text.endsWith('incomplete'))) return 'none'
  return `mixed: ${shown.join(', ')}`
}

/**
 * True for a folder above the work folder, as --work-dir may name one. It is there as long as the work folder is. A process
 * that was killed leaves it, and the next one cannot know who made it: it stays then, and is the user's.
 */
const isAboveWork = (path: string, { workDir }: Undisturbed, now: Snapshot): boolean =>
  isIn(workDir, path) && now.get(path) === 'folder'

/** @returns what is wrong with the folders. */
function wrongFiles(run: Undisturbed, now: Snapshot, mayHide: boolean, strict: boolean): string[] {
  const { before, after, workDir } = run
  const wrong: string[] = []
  for (const path of new Set([...before.keys(), ...after.keys(), ...now.keys()])) {
    const content = now.get(path)
    if (isIn(path, workDir)) continue
    if (before.has(path) || after.has(path)) {
      if (content === before.get(path) || content === after.get(path)) continue
      if (before.get(path) === after.get(path))
        wrong.push(`${path} of somebody else was ${content ? 'changed' : 'removed'}`)
      else if (!path.startsWith('out/')) wrong.push(`${path} is neither old nor new`)
    } else if (isAboveWork(path, run, now) && (mayHide || now.has(workDir))) continue
    else if (!(mayHide && isHidden(path))) wrong.push(`${path} was left`)
  }
  const state = stateOf(run, now, strict)
  return ['old', 'new', 'none'].includes(state) ? wrong : [...wrong, state]
}

/** Number of the call an error was injected at, if the message has it. */
const injectedAt = (text: string): number | undefined => {
  const found = /\[call (\d+)\]/.exec(text)
  return found ? Number(found[1]) : undefined
}

/** First place of our code in a stack. */
const whereIn = (stack = ''): string => /at (.* \(.*\/dist\/.*\))/.exec(stack)?.[1]?.replace(/\(.*\/dist\//, '(') ?? ''

/** Errors in the message of an error. */
function wrongError(point: Point, outcome: Extract<Outcome, { type: 'error' }>): string[] {
  const { known, code, message, stack, causes } = outcome.error
  if (!known) return [`not a QuantError: ${message} ${whereIn(stack)}`]
  if (code === 'E_INTERNAL') return [`E_INTERNAL: ${message}`]
  if (point.action === 'half') return [`refused ${code}: ${message}`]
  if (point.call.name.startsWith('exists')) return []
  const wanted = point.action === 'full' || point.action === 'half-fail' ? 'ENOSPC' : point.code!
  if (!message.includes(wanted)) return [`the error does not say ${wanted}: ${code}: ${message} (${causes.join('; ')})`]
  const failing = outcome.calls.filter(({ n }) => n >= point.at)
  const first = failing.find(({ kind, writes }) => writes || kind === 'rename')?.n ?? Infinity
  const told = injectedAt(message)
  return told !== undefined && told > first ? [`tells of call ${told}, not of the first, ${first}: ${message}`] : []
}

/** Errors right after the fault. */
export function afterFault(run: Undisturbed, point: Point, outcome: Outcome, now: Snapshot): string[] {
  const { call, action } = point
  const died = action === 'die' || action === 'half-die'
  if (outcome.type === 'hangs') return ['hangs']
  if (outcome.type === 'crashed') return [`crashed: ${outcome.detail}`]
  if ((outcome.type === 'killed') !== died) return [`the point was not reached: ${outcome.type}`]
  const strict = !leavesAll(point)
  const wrong = wrongFiles(run, now, !strict || isTidying(call), strict)
  if (outcome.type === 'error') return [...wrong, ...wrongError(point, outcome)]
  if (outcome.type !== 'done') return wrong
  const rest = differences(run.after, now).filter(
    path => !(isTidying(call) && (isHidden(path) || isIn(path, run.workDir) || isAboveWork(path, run, now))),
  )
  const deaf = action !== 'half' && tellsOfBytes(call) ? ['it was not told'] : []
  return [...wrong, ...deaf, ...rest.map(path => `"done", and ${path} is not as it should be`)]
}

/** Faults found after the same command ran again, without a fault. */
export function afterRerun(run: Undisturbed, outcome: Outcome, now: Snapshot): string[] {
  const { after } = run
  if (outcome.type === 'error') return [`again: ${outcome.error.code}: ${outcome.error.message}`]
  if (outcome.type !== 'done') return [`again: ${JSON.stringify(outcome)}`]
  return differences(after, now)
    .filter(path => !isAboveWork(path, run, now))
    .map(path => `again: ${path} ${now.has(path) ? (after.has(path) ? 'differs' : 'is left') : 'is missing'}`)
}

export const relativeWorkDir = (folder: string, outcome: Extract<Outcome, { type: 'done' }>): string =>
  relative(folder, outcome.traces!.work.path)
