/** @file Damage to the protobuf records of an ONNX file: lengths, tags, numbers, order, places. Knows which fields are messages. */

import type { Random } from '../../src/calibration/rng.ts'
import { encodeVarint, memorySource, readRecord } from '../../src/graph/onnx-file/wire.ts'

type MessageName = keyof typeof MESSAGES

// onnx.proto: fields that are messages.
const MESSAGES = {
  model: { 7: 'graph', 8: 'leaf', 14: 'leaf', 25: 'function' },
  graph: { 1: 'node', 5: 'tensor', 11: 'info', 12: 'info', 13: 'info', 15: 'sparse' },
  function: { 7: 'node', 9: 'leaf' },
  node: { 5: 'attribute' },
  attribute: { 5: 'tensor', 6: 'graph', 10: 'tensor', 11: 'graph' },
  sparse: { 1: 'tensor', 2: 'tensor' },
  tensor: { 13: 'leaf' },
  info: { 2: 'type' },
  type: { 1: 'tensorType' },
  tensorType: { 2: 'shape' },
  shape: { 1: 'leaf' },
  leaf: {},
} as const satisfies Record<string, Readonly<Record<number, string>>>

/** A record: its number or bytes, or its records where it is a message we know. */
interface Item {
  field: number
  wireType: number
  content: Uint8Array
  children: Item[] | undefined
  /** A wrong length of the content. */
  claimed?: number
}

function parse(bytes: Uint8Array, message: MessageName): Item[] {
  const source = memorySource(bytes)
  const items: Item[] = []
  for (let at = 0; at < bytes.length;) {
    const { field, wireType, start, end } = readRecord(source, at, bytes.length)
    const inner = (MESSAGES[message] as Record<number, MessageName>)[field]
    const content = bytes.subarray(start, end)
    items.push({ field, wireType, content, children: inner && wireType === 2 ? parse(content, inner) : undefined })
    at = end
  }
  return items
}

function encode(items: readonly Item[]): Uint8Array {
  const parts = items.flatMap(({ field, wireType, content, children, claimed }) => {
    const body = children ? encode(children) : content
    const tag = encodeVarint(field * 8 + wireType)
    return [Uint8Array.from(wireType === 2 ? [...tag, ...encodeVarint(claimed ?? body.length)] : tag), body]
  })
  return new Uint8Array(Buffer.concat(parts))
}

/** Numbers that break careless arithmetic, as varints. */
const VARINTS: readonly (readonly number[])[] = [
  [0],
  [1],
  [0x7f],
  encodeVarint(2 ** 31),
  encodeVarint(2 ** 32),
  encodeVarint(2 ** 53),
  [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
  [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
  [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
]

const pick = <T>(random: Random, list: readonly T[]): T => list[random.int(list.length)]!

function everyList(items: Item[], into: Item[][] = []): Item[][] {
  if (items.length > 0) into.push(items)
  for (const { children } of items) if (children) everyList(children, into)
  return into
}

function damage(random: Random, root: Item[]): void {
  const lists = everyList(root)
  const list = pick(random, lists)
  const i = random.int(list.length)
  const item = list[i]!
  switch (random.int(10)) {
    case 0:
      list.splice(i, 1)
      return
    case 1:
      list.splice(i, 0, ...Array.from({ length: pick(random, [1, 1, 2, 50]) }, () => item))
      return
    case 2: {
      const other = pick(random, lists)
      const j = random.int(other.length)
      ;[list[i], other[j]] = [other[j]!, item]
      return
    }
    case 3:
      // As bytes: a message put into itself would never end.
      pick(random, lists).push({
        ...item,
        content: item.children ? encode(item.children) : item.content,
        children: undefined,
      })
      return
    case 4:
      item.field = pick(random, [item.field + 1, 1 + random.int(30), 19999, 2 ** 29 - 1])
      return
    case 5:
      item.wireType = random.int(8)
      return
    case 6:
      item.claimed = pick(random, [0, 1, item.content.length + 1, 1000, 2 ** 31, 2 ** 40, 2 ** 53])
      return
    case 7:
      item.wireType = 0
      item.children = undefined
      item.content = Uint8Array.from(pick(random, VARINTS))
      return
    case 8:
      item.children = undefined
      item.content = item.content.subarray(0, random.int(item.content.length + 1))
      return
    default: {
      item.children = undefined
      item.content = item.content.slice()
      const flips = Math.min(item.content.length, pick(random, [1, 1, 4, 32]))
      for (let n = 0; n < flips; n++) item.content[random.int(item.content.length)] = random.int(256)
    }
  }
}

/** The file with a few records damaged. */
export function mutateRecords(random: Random, bytes: Uint8Array): Uint8Array {
  const items = parse(bytes, 'model')
  for (let n = pick(random, [1, 1, 1, 2, 4]); n > 0; n--) damage(random, items)
  return encode(items)
}

/** Any file with bytes changed, cut off, or repeated. */
export function mutateBytes(random: Random, bytes: Uint8Array): Uint8Array {
  const result = Uint8Array.from(bytes)
  switch (random.int(4)) {
    case 0:
      return result.subarray(0, random.int(result.length + 1))
    case 1: {
      const [a, b] = [random.int(result.length + 1), random.int(result.length + 1)]
      return new Uint8Array(Buffer.concat([result.subarray(0, Math.max(a, b)), result.subarray(Math.min(a, b))]))
    }
    default:
      // Positions near the ends are more likely: headers are there.
      for (let n = pick(random, [1, 2, 8]); n > 0 && result.length > 0; n--)
        result[random.int(Math.min(result.length, pick(random, [16, 256, result.length])))] = random.int(256)
      return result
  }
}
