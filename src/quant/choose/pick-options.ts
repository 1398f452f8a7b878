/**
 * @file Picks one option for each of many items, so that their sizes hold a limit and their costs are least, or the other way round:
 * dynamic programming over sizes. Knows no model.
 */

/** An option of an item. */
export interface Option {
  /** Whole number of bytes. */
  readonly size: number
  readonly cost: number
}

/** Options that were picked, by position, with their sums. */
export interface Picked {
  readonly picks: readonly number[]
  readonly size: number
  readonly cost: number
}

/** Most sizes that are told apart. */
const MAX_STEPS = 2 ** 16

/** Most bytes of the table of picks, one for each item and size. */
const MAX_CELLS = 2 ** 27

const greatestDivisor = (a: number, b: number): number => (b === 0 ? a : greatestDivisor(b, a % b))

/** Least and greatest sum of sizes. */
export function sizeRange(items: readonly (readonly Option[])[]): { readonly least: number; readonly most: number } {
  const sum = (of: (...sizes: number[]) => number) =>
    items.reduce((total, options) => total + of(...options.map(({ size }) => size)), 0)
  return { least: sum(Math.min), most: sum(Math.max) }
}

/**
 * The least cost for every size that can be reached, and the picks behind it. Sizes are counted in steps above the least sum. A step is
 * the greatest common divisor of all differences, which makes it exact, unless there would be more than MAX_STEPS (or MAX_CELLS / items):
 * then differences are rounded to steps, and the exact size of a pick is known only when it is read.
 */
class Frontier {
  private readonly items: readonly (readonly Option[])[]
  private readonly units: readonly (readonly number[])[]
  private readonly table: readonly Uint8Array[]
  /** Least cost of each number of steps; Infinity where no picks have it. */
  readonly costs: Float64Array

  constructor(items: readonly (readonly Option[])[]) {
    const above = items.map(options => {
      const least = Math.min(...options.map(({ size }) => size))
      return options.map(({ size }) => size - least)
    })
    const range = above.reduce((sum, sizes) => sum + Math.max(...sizes), 0)
    const divisor = above.flat().reduce(greatestDivisor, 0) || 1
    const steps = Math.max(1, Math.min(MAX_STEPS, Math.floor(MAX_CELLS / Math.max(1, items.length))))
    const step = Math.max(divisor, range / steps)
    this.items = items
    this.units = above.map(sizes => sizes.map(size => Math.round(size / step)))
    const width = this.units.reduce((sum, units) => sum + Math.max(...units), 0) + 1
    let costs = new Float64Array(width).fill(Infinity)
    costs[0] = 0
    let reached = 1
    this.table = items.map((options, i) => {
      const units = this.units[i]!
      const next = new Float64Array(width).fill(Infinity)
      const picks = new Uint8Array(width)
      options.forEach(({ cost }, pick) => {
        const unit = units[pick]!
        for (let s = 0; s < reached; s++) {
          const total = costs[s]! + cost
          if (!(total < next[s + unit]!)) continue
          next[s + unit] = total
          picks[s + unit] = pick
        }
      })
      reached += Math.max(...units)
      costs = next
      return picks
    })
    this.costs = costs
  }

  /** Picks with the least cost among those of so many steps. */
  at(steps: number): Picked {
    const picks: number[] = []
    let left = steps
    for (let i = this.items.length - 1; i >= 0; i--) {
      const pick = this.table[i]![left]!
      picks[i] = pick
      left -= this.units[i]![pick]!
    }
    return pickedAt(this.items, picks)
  }

  /** Numbers of steps that can be reached, from the least up. */
  get reached(): number[] {
    return [...this.costs.keys()].filter(steps => this.costs[steps]! < Infinity)
  }
}

/** Picks of the least cost whose sizes sum up to at most `maxSize`; undefined where there are none. */
export function cheapestWithin(items: readonly (readonly Option[])[], maxSize: number): Picked | undefined {
  const frontier = new Frontier(items)
  const byCost = frontier.reached.sort((a, b) => frontier.costs[a]! - frontier.costs[b]! || a - b)
  for (const steps of byCost) {
    const picked = frontier.at(steps)
    if (picked.size <= maxSize) return picked
  }
  // Where differences are rounded, the smallest of all may hide behind one of the same number of steps.
  const smallest = pickedAt(
    items,
    items.map(options => leastOf(options)),
  )
  return smallest.size <= maxSize ? smallest : undefined
}

/** Position of the smallest option; the cheapest of those. */
const leastOf = (options: readonly Option[]): number =>
  options.reduce((best, { size, cost }, i) => {
    const { size: least, cost: cheapest } = options[best]!
    return size < least || (size === least && cost < cheapest) ? i : best
  }, 0)

/** Picks with their sums. */
function pickedAt(items: readonly (readonly Option[])[], picks: readonly number[]): Picked {
  const sum = (of: (option: Option) => number) => picks.reduce((total, pick, i) => total + of(items[i]![pick]!), 0)
  return { picks, size: sum(({ size }) => size), cost: sum(({ cost }) => cost) }
}

/** Picks of the least size whose costs sum up to at most `maxCost`; undefined where there are none. */
export function smallestBelow(items: readonly (readonly Option[])[], maxCost: number): Picked | undefined {
  const frontier = new Frontier(items)
  const steps = frontier.reached.find(each => frontier.costs[each]! <= maxCost)
  return steps === undefined ? undefined : frontier.at(steps)
}
