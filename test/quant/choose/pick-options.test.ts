/** @file Picks under a limit are those of trying everything. */

import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  cheapestWithin,
  type Option,
  type Picked,
  sizeRange,
  smallestBelow,
} from '../../../src/quant/choose/pick-options.ts'

/** All ways to pick. */
function everything(items: readonly (readonly Option[])[]): Picked[] {
  return items.reduce<Picked[]>(
    (before, options) =>
      before.flatMap(({ picks, size, cost }) =>
        options.map((option, pick) => ({
          picks: [...picks, pick],
          size: size + option.size,
          cost: cost + option.cost,
        })),
      ),
    [{ picks: [], size: 0, cost: 0 }],
  )
}

const items = (largest: number) =>
  fc.array(
    fc.array(fc.record({ size: fc.integer({ min: 1, max: largest }), cost: fc.integer({ min: 0, max: 1000 }) }), {
      minLength: 1,
      maxLength: 4,
    }),
    { minLength: 1, maxLength: 6 },
  )

const within = fc.double({ min: -0.1, max: 1.1, noNaN: true })

test('the cheapest within a size', () => {
  fc.assert(
    fc.property(items(2000), within, (options, share) => {
      const { least, most } = sizeRange(options)
      const limit = Math.round(least + share * (most - least))
      const fits = everything(options).filter(({ size }) => size <= limit)
      const picked = cheapestWithin(options, limit)
      expect(picked === undefined).toBe(fits.length === 0)
      if (!picked) return
      expect(picked.size).toBeLessThanOrEqual(limit)
      expect(picked.cost).toBe(Math.min(...fits.map(({ cost }) => cost)))
      // The sums are those of the picks.
      expect(picked.size).toBe(picked.picks.reduce((sum, pick, i) => sum + options[i]![pick]!.size, 0))
    }),
  )
})

test('the smallest below a cost', () => {
  fc.assert(
    fc.property(items(2000), fc.integer({ min: 0, max: 3000 }), (options, limit) => {
      const fits = everything(options).filter(({ cost }) => cost <= limit)
      const picked = smallestBelow(options, limit)
      expect(picked === undefined).toBe(fits.length === 0)
      if (!picked) return
      expect(picked.cost).toBeLessThanOrEqual(limit)
      expect(picked.size).toBe(Math.min(...fits.map(({ size }) => size)))
    }),
  )
})

test('sizes that are too many to be told apart: never over the limit, and hardly dearer than the best', () => {
  fc.assert(
    fc.property(items(4e9), within, (options, share) => {
      const { least, most } = sizeRange(options)
      const limit = Math.round(least + share * (most - least))
      const picked = cheapestWithin(options, limit)
      const cheapest = (size: number) =>
        Math.min(Infinity, ...everything(options).flatMap(each => (each.size <= size ? [each.cost] : [])))
      expect(picked === undefined).toBe(cheapest(limit) === Infinity)
      if (!picked) return
      expect(picked.size).toBeLessThanOrEqual(limit)
      // As good as the best of a limit that is less by a step for each item.
      expect(picked.cost).toBeLessThanOrEqual(cheapest(limit - ((options.length + 1) * (most - least)) / 2 ** 16))
    }),
  )
})

test('a model of a hundred layers takes no time', () => {
  const layer = [2, 2.5, 4, 4.5, 5, 8].map(bits => ({ size: bits * 2 ** 20, cost: 4 ** -bits }))
  const options = Array.from({ length: 700 }, (_, i) =>
    layer.map(({ size, cost }) => ({ size, cost: cost * (1 + (i % 7)) })),
  )
  const limit = 700 * 4 * 2 ** 20
  const { size, cost } = cheapestWithin(options, limit)!
  expect(size).toBe(limit)
  // Sensitive layers get more: better than 4 bits for all.
  expect(cost).toBeLessThan(options.reduce((sum, each) => sum + each[2]!.cost, 0))
})
