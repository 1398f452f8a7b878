import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { elementCount } from '../../../../src/graph/tensor.ts'
import { Channels } from '../../../../src/quant/plan/mappings/channels.ts'

/** The same by brute force: every id of every element. */
interface Plain {
  readonly shape: readonly number[]
  readonly ids: readonly number[]
}

const indices = (shape: readonly number[]): number[][] =>
  shape.reduce<number[][]>(
    (all, dim) => all.flatMap(index => Array.from({ length: dim }, (_, i) => [...index, i])),
    [[]],
  )

const at = ({ shape, ids }: Plain, index: readonly number[]): number =>
  ids[index.reduce((flat, i, axis) => flat * shape[axis]! + i, 0)]!

const plain = (shape: readonly number[], from: (index: number[]) => number): Plain => ({
  shape,
  ids: indices(shape).map(from),
})

/** Every element, read through the methods under test alone. */
const read = (channels: Channels): Plain => {
  const { shape } = channels
  return plain(shape, index => {
    let one = channels
    index.forEach((i, axis) => (one = one.slice(axis, i, 1, 1)))
    return one.distinct()[0]!
  })
}

interface Pair {
  readonly channels: Channels
  readonly plain: Plain
}

type Step = (pair: Pair, draw: (below: number) => number) => Pair | undefined

const transpose: Step = ({ channels, plain: from }, draw) => {
  const rest = from.shape.map((_, i) => i)
  const perm = from.shape.map(() => rest.splice(draw(rest.length), 1)[0]!)
  const shape = perm.map(axis => from.shape[axis]!)
  return {
    channels: channels.transpose(perm),
    plain: plain(shape, index =>
      at(
        from,
        [...perm.keys()].map(axis => index[perm.indexOf(axis)]!),
      ),
    ),
  }
}

const reshape: Step = ({ channels, plain: from }, draw) => {
  const shape: number[] = []
  let left = elementCount(from.shape)
  while (left > 1 && shape.length < 4) {
    const divisors = [...Array(left).keys()].map(i => i + 1).filter(i => left % i === 0)
    shape.push(divisors[draw(divisors.length)]!)
    left /= shape.at(-1)!
  }
  shape.push(left)
  const result = channels.reshape(shape)
  // Strides cannot say every regrouping; what they do say must be right.
  return result && { channels: result, plain: { shape, ids: from.ids } }
}

const slice: Step = ({ channels, plain: from }, draw) => {
  const axis = draw(from.shape.length)
  const start = draw(from.shape[axis]!)
  const step = draw(2) === 0 ? 1 : -1
  const size = 1 + draw(step > 0 ? from.shape[axis]! - start : start + 1)
  return {
    channels: channels.slice(axis, start, step, size),
    plain: plain(from.shape.with(axis, size), index => at(from, index.with(axis, start + step * index[axis]!))),
  }
}

const take: Step = ({ channels, plain: from }, draw) => {
  const axis = draw(from.shape.length)
  const chosen = Array.from({ length: 1 + draw(4) }, () => draw(from.shape[axis]!))
  return {
    channels: channels.take(axis, chosen),
    plain: plain(from.shape.with(axis, chosen.length), index => at(from, index.with(axis, chosen[index[axis]!]!))),
  }
}

const repeat: Step = ({ channels, plain: from }, draw) => {
  if (elementCount(from.shape) > 100) return undefined
  const count = 1 + draw(3)
  if (draw(2) === 0) {
    const shape = [count, ...from.shape]
    return { channels: channels.expand(shape), plain: plain(shape, index => at(from, index.slice(1))) }
  }
  const repeats = from.shape.map((_, i) => (i === 0 ? count : 1))
  const shape = from.shape.with(0, from.shape[0]! * count)
  return {
    channels: channels.tile(repeats),
    plain: plain(shape, index => at(from, index.with(0, index[0]! % from.shape[0]!))),
  }
}

const concat: Step = ({ channels, plain: from }, draw) => {
  if (elementCount(from.shape) > 100) return undefined
  const axis = draw(from.shape.length)
  const size = from.shape[axis]!
  const none = Channels.none(from.shape)
  const turned = channels.slice(axis, size - 1, -1, size)
  const joined = Channels.concat([channels, none, turned], axis)
  return (
    joined && {
      channels: joined,
      plain: plain(from.shape.with(axis, 3 * size), index => {
        const [part, i] = [Math.floor(index[axis]! / size), index[axis]! % size]
        return part === 1 ? -1 : at(from, index.with(axis, part === 0 ? i : size - 1 - i))
      }),
    }
  )
}

const zip: Step = ({ channels, plain: from }, draw) => {
  const axis = draw(from.shape.length)
  const one = draw(from.shape[axis]!)
  const narrow = channels.slice(axis, one, 1, 1)
  const combined = Channels.zip(channels, narrow, (a, b) => 2 * a - b)
  return (
    combined && {
      channels: combined,
      plain: plain(from.shape, index => 2 * at(from, index) - at(from, index.with(axis, one))),
    }
  )
}

const STEPS: readonly Step[] = [transpose, reshape, reshape, slice, take, repeat, concat, zip]

describe('Channels', () => {
  test('any chain of movements gives every element the id it has by brute force', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 3 }),
        fc.nat(2),
        fc.array(fc.tuple(fc.nat(STEPS.length - 1), fc.infiniteStream(fc.nat(1000))), { minLength: 1, maxLength: 6 }),
        (shape, dropped, steps) => {
          const rank = Math.max(1, shape.length - dropped)
          const own = shape.slice(shape.length - rank)
          let pair: Pair = {
            channels: Channels.numbered(shape, 5, rank),
            plain: plain(
              shape,
              index => 5 + at({ shape: own, ids: [...Array(elementCount(own)).keys()] }, index.slice(-rank)),
            ),
          }
          for (const [which, numbers] of steps)
            pair = STEPS[which]!(pair, below => (numbers.next().value as number) % below) ?? pair
          expect(read(pair.channels)).toEqual(pair.plain)
          expect(new Set(pair.channels.distinct())).toEqual(new Set(pair.plain.ids))
        },
      ),
    )
  })

  test('heads stacked with tokens, and taken apart again, cost no more than channels', () => {
    const heads = Channels.numbered([1, 2048, 32 * 64], 0, 1)
      .reshape([1, 2048, 32, 64])!
      .transpose([0, 2, 1, 3])
    const stacked = heads.reshape([1, 8, 4 * 2048, 64])!
    expect(stacked.distinct().length).toBe(2048)
    expect(stacked.isConstantAlong(2)).toBe(false)
    const merged = stacked.reshape([1, 32, 2048, 64])!.transpose([0, 2, 1, 3]).reshape([1, 2048, 2048])!
    expect(merged.along(2)).toEqual(Int32Array.from({ length: 2048 }, (_, i) => i))
    expect(merged.along(1)).toBeUndefined()
  })

  test('says where ids depend on more than one axis, and where a shape cannot be regrouped', () => {
    const grid = Channels.numbered([2, 3], 0)
    expect(grid.along(1)).toBeUndefined()
    expect(grid.transpose([1, 0]).reshape([2, 3])).toBeUndefined()
    expect(Channels.none([2, 3]).along(1)).toEqual(Int32Array.of(-1, -1, -1))
  })
})
