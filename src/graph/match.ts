/**
 * @file Patterns over producers: `match(y, op('Add', capture('x'), op('MatMul', any, constant())))`. A refusal names the node
 * where the most promising attempt ended. Knows no ops but the two whose operands commute.
 */

import type { Node, Value } from './ir.ts'

export type Bindings = ReadonlyMap<string, Value>

export type MatchResult =
  | { readonly ok: true; readonly bindings: Bindings }
  | { readonly ok: false; readonly reason: string; readonly node: Node | undefined }

/** How far an attempt has come: values captured and ops recognised so far. */
interface Progress {
  readonly bindings: Bindings
  readonly ops: number
}

type Refuse = (progress: Progress, reason: string, node: Node | undefined) => void

/** Yields every way the value fits, best first; says through `refuse` why one does not. */
export type Pattern = (value: Value | undefined, progress: Progress, refuse: Refuse) => Iterable<Progress>

const COMMUTATIVE: ReadonlySet<string> = new Set(['Add', 'Mul'])

/** Any value, but not an absent input. */
export const any: Pattern = function* (value, progress, refuse) {
  if (value) yield progress
  else refuse(progress, 'an input is absent', undefined)
}

/** A value that fits `pattern`, to be found under `name`; the same name twice means the same value twice. */
export function capture(name: string, pattern: Pattern = any): Pattern {
  return function* (value, progress, refuse) {
    const known = progress.bindings.get(name)
    if (known && known !== value) {
      refuse(progress, `"${value?.name ?? ''}" is not "${known.name}", already taken for ${name}`, value?.producer)
      return
    }
    for (const next of pattern(value, progress, refuse))
      yield { ...next, bindings: new Map(next.bindings).set(name, value!) }
  }
}

/** A value with a tensor; `accept` may look at it. */
export function constant(accept: (value: Value) => boolean = () => true): Pattern {
  return function* (value, progress, refuse) {
    if (!value?.tensor) refuse(progress, `"${value?.name ?? ''}" is not constant`, value?.producer)
    else if (!accept(value)) refuse(progress, `the constant "${value.name}" is not the one expected`, undefined)
    else yield progress
  }
}

/** A value that fits one of `patterns`, tried in order. */
export function oneOf(...patterns: readonly Pattern[]): Pattern {
  return function* (value, progress, refuse) {
    for (const pattern of patterns) yield* pattern(value, progress, refuse)
  }
}

/**
 * The output of a node of this kind (`Node.kind`; several are alternatives) whose first inputs fit `inputs`; further inputs
 * may be anything. Two operands of Add and Mul fit in either order.
 */
export function op(kind: string | readonly string[], ...inputs: readonly Pattern[]): Pattern {
  const kinds = typeof kind === 'string' ? [kind] : kind
  return function* (value, progress, refuse) {
    const node = value?.producer
    if (!node || !kinds.includes(node.kind)) {
      const got = node ? `made by ${node.kind}` : value?.tensor ? 'a constant' : value ? 'an input' : 'absent'
      refuse(progress, `"${value?.name ?? ''}" is ${got}, expected ${kinds.join(' or ')}`, node)
      return
    }
    const recognised = { ...progress, ops: progress.ops + 1 }
    const fit = function* (operands: readonly (Value | undefined)[], i: number, soFar: Progress): Iterable<Progress> {
      if (i === inputs.length) yield soFar
      else for (const next of inputs[i]!(operands[i], soFar, refuse)) yield* fit(operands, i + 1, next)
    }
    yield* fit(node.inputs, 0, recognised)
    if (inputs.length === 2 && COMMUTATIVE.has(node.kind)) yield* fit([...node.inputs].reverse(), 0, recognised)
  }
}

/** Whether `value` is computed as `pattern` says. */
export function match(value: Value, pattern: Pattern): MatchResult {
  let best: { reason: string; node: Node | undefined; ops: number } | undefined
  const refuse: Refuse = ({ ops }, reason, node) => {
    if (best === undefined || ops > best.ops) best = { reason, node, ops }
  }
  for (const { bindings } of pattern(value, { bindings: new Map(), ops: 0 }, refuse)) return { ok: true, bindings }
  return { ok: false, reason: best?.reason ?? 'no pattern given', node: best?.node }
}
