/** @file Changes to JSON: other values, other types, deep nesting, keys that are special to JavaScript's objects. */

import type { Random } from '../../src/calibration/rng.ts'
import { mutateBytes } from './mutate-wire.ts'

type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

const pick = <T>(random: Random, list: readonly T[]): T => list[random.int(list.length)]!

const nested = (depth: number): Json => {
  let value: Json = 1
  for (let i = 0; i < depth; i++) value = i % 2 === 0 ? [value] : { a: value }
  return value
}

const VALUES: readonly (() => Json)[] = [
  () => null,
  () => true,
  () => 0,
  () => -1,
  () => 1.5,
  () => 1e308,
  () => 2 ** 31,
  () => 2 ** 53,
  () => '',
  () => '(a',
  () => 'a',
  () => 'BPE',
  () => 'x'.repeat(5000),
  () => [],
  () => ({}),
  () => [[1, 2], 'x', null],
  () => nested(3000),
]

const KEYS = [
  '__proto__',
  'constructor',
  'toString',
  'length',
  'type',
  'model',
  'vocab',
  '',
  '0',
  'pretokenizers',
  'normalizers',
]

/** All entries in `json` and below, as [holder, key]. */
function places(root: Json): [Record<string, Json>, string][] {
  const found: [Record<string, Json>, string][] = []
  // Without recursion, nearest to the root first: some values are nested deeper than the stack.
  const holders = [root]
  for (let next = 0; next < holders.length; next++) {
    for (const [key, value] of Object.entries(holders[next] as object) as [string, Json][]) {
      found.push([holders[next] as Record<string, Json>, key])
      if (typeof value === 'object' && value !== null) holders.push(value)
    }
  }
  return found
}

/** A copy; null in place of values that are nested too deep to be copied. */
function copied(value: Json): Json {
  try {
    return JSON.parse(JSON.stringify(value)) as Json
  } catch {
    return null
  }
}

function change(random: Random, root: { json: Json }): void {
  const all = places(root)
  // Large tables drown the rest: half the time a place near the root is taken.
  const [holder, key] = all[random.int(random.int(2) === 0 ? all.length : Math.min(all.length, 40))]!
  const define = (name: string, value: Json) =>
    Object.defineProperty(holder, name, { value, enumerable: true, configurable: true, writable: true })
  switch (random.int(5)) {
    case 0:
      if (holder !== (root as unknown)) delete holder[key]
      return
    case 1: {
      const [otherHolder, otherKey] = pick(random, all)
      // A copy: a value put into itself would never end.
      define(key, copied(otherHolder[otherKey]!))
      return
    }
    case 2:
      if (holder !== (root as unknown) && !Array.isArray(holder)) define(pick(random, KEYS), holder[key]!)
      return
    default:
      define(key, pick(random, VALUES)())
  }
}

/** The text of `json` with a few changes; now and then the text itself is damaged. */
export function mutateJson(random: Random, text: string): Uint8Array {
  const root = { json: JSON.parse(text) as Json }
  for (let n = pick(random, [1, 1, 2, 5]); n > 0; n--) change(random, root)
  let bytes: Uint8Array
  try {
    bytes = Buffer.from(JSON.stringify(root.json))
  } catch {
    bytes = Buffer.from('['.repeat(100_000) + ']'.repeat(100_000)) // nested as deep as the stack allows: go down all the way
  }
  return random.int(10) === 0 ? mutateBytes(random, bytes) : bytes
}
