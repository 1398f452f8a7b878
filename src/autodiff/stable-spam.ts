/**
 * @file Stable-SPAM (arXiv:2502.17055): AdamW behind clipping by tracked maxima, rescaling by tracked norms and periodic
 * fresh starts. Knows of the parameters only how long each is.
 */

import { internalError } from '../errors.ts'
import type { Builder } from '../graph/builder.ts'
import type { Value } from '../graph/ir.ts'
import { adamW, biasCorrection } from './adamw.ts'
import { dropWhere, piecesAsVector, scaled, vectorInPieces } from './fragments.ts'
import type { Optimizer } from './optimizer.ts'

export interface StableSpamOptions {
  /** Steps after which Adam's moments start again from zero (the paper's Delta T, and its value); 0 for never. */
  readonly resetEvery?: number
  /** Decays of the running means of a tensor's norm, squared norm (AdaGN) and maximum (AdaClip). */
  readonly gamma1?: number
  readonly gamma2?: number
  readonly gamma3?: number
  readonly epsilon?: number
}

/** Smallest normal float32. As the least divisor it turns the 0 / 0 of a tensor without gradient into 0. */
const TINY = 2 ** -126

/** Neighbouring tensors of one length, as a matrix [rows, length]. */
interface Run {
  rows: number
  readonly length: number
}

function runsOf(segments: readonly number[]): Run[] {
  const runs: Run[] = []
  for (const length of segments) {
    const last = runs.at(-1)
    if (last?.length === length) last.rows++
    else runs.push({ rows: 1, length })
  }
  return runs
}

/** x [size] -> one [rows, length] for each run. */
function toRuns(g: Builder, x: Value, runs: readonly Run[]): Value[] {
  const shapes = runs.map(({ rows, length }) => [rows, length])
  return vectorInPieces(g, x, shapes)
}

/** One number for each tensor, [tensors, 1] -> one [rows, 1] for each run. */
function rowsOf(g: Builder, x: Value, runs: readonly Run[]): Value[] {
  const counts = runs.map(({ rows }) => rows)
  return cut(g, x, counts)
}

/** x in pieces along its first axis. */
function cut(g: Builder, x: Value, lengths: readonly number[]): Value[] {
  return lengths.length === 1 ? [x] : g.split(x, lengths, 0)
}

function joined(g: Builder, parts: readonly Value[]): Value {
  return parts.length === 1 ? parts[0]! : g.concat(parts, 0)
}

const atLeastTiny = (g: Builder, x: Value): Value => g.op('Max', [x, g.scalar(TINY)])

/** Running mean of x, and what it is once its start at 0 is made up for: mean / (1 - decay^step). */
function average(g: Builder, mean: Value, x: Value, decay: number, step: Value): { next: Value; corrected: Value } {
  const next = g.add(scaled(g, mean, decay), scaled(g, x, 1 - decay))
  return { next, corrected: g.div(next, biasCorrection(g, step, decay)) }
}

/** Adam's moments and step number, counted from the last reset. */
function sinceReset(g: Builder, moments: readonly Value[], step: Value, every: number): [Value[], Value] {
  if (every === 0) return [[...moments], step]
  // No Mod: WebGPU has no kernel for it. Steps are whole numbers, so the division loses none of what Floor looks at.
  const before = g.shift(step, -1)
  const since = g.sub(before, g.scale(g.op('Floor', [g.div(before, g.scalar(every))]), every))
  const isReset = g.op('Equal', [since, g.scalar(0)])
  return [moments.map(moment => dropWhere(g, isReset, moment)), g.shift(since, 1)]
}

/**
 * arXiv:2502.17055, Algorithm 1. For every tensor of the vector, g its gradient at step t, mean(z) a running mean of z with
 * bias correction (decay gamma3, gamma1, gamma2 in order of appearance):
 *   AdaClip  T = mean(max |g|);  where |g_i| > T:  g_i <- g_i / max |g| * T
 *   AdaGN    n = ||g||;  g <- g / n * mean(n) / (sqrt(mean(n^2)) + epsilon)
 *   MoRet    at steps 1 + k resetEvery Adam's moments are zero and its t is 1
 * and AdamW with what came out. The authors' code starts the correction of all means anew at a reset, but not the means, so
 * that for hundreds of steps nothing is clipped; here means and their corrections run on. It also resets one step earlier.
 * Eighty nodes, most of them on scalars, and ten more for every run of neighbouring tensors of one length.
 * @param segments element counts of the tensors in the vector, none zero.
 * @throws E_INTERNAL for segments or an interval that make no sense.
 */
export function stableSpam(segments: readonly number[], options: StableSpamOptions = {}): Optimizer {
  const { resetEvery = 1000, gamma1 = 0.7, gamma2 = 0.9, gamma3 = 0.999, epsilon = 1e-8 } = options
  if (segments.length === 0 || !segments.every(length => Number.isSafeInteger(length) && length > 0))
    throw internalError(`[${segments.join(', ')}] are not lengths of tensors`)
  if (!Number.isSafeInteger(resetEvery) || resetEvery < 0)
    throw internalError(`moments cannot be reset every ${resetEvery} steps`)
  const size = segments.reduce((sum, length) => sum + length, 0)
  const runs = runsOf(segments)

  /** parts, and mean maximum before -> parts without spikes, and mean maximum after. */
  const adaClip = (g: Builder, parts: readonly Value[], before: Value, step: Value): [Value[], Value] => {
    const absolute = parts.map(part => g.op('Abs', [part]))
    const maxima = absolute.map(part => g.op('ReduceMax', [part, g.ints([1])], { keepdims: 1 }))
    const maximum = joined(g, maxima)
    const { next, corrected } = average(g, before, maximum, gamma3, step)
    const thresholds = rowsOf(g, corrected, runs)
    const shrinkages = rowsOf(g, g.div(corrected, atLeastTiny(g, maximum)), runs)
    const clipped = parts.map((part, i) => {
      const isSpike = g.op('Greater', [absolute[i]!, thresholds[i]!])
      return g.op('Where', [isSpike, g.mul(part, shrinkages[i]!), part])
    })
    return [clipped, next]
  }

  /** parts, mean norm and mean squared norm before -> parts of steadied norm, and these means after. */
  const adaGn = (g: Builder, parts: readonly Value[], [norms, squares]: Value[], step: Value): [Value[], Value[]] => {
    const sums = parts.map(part => g.reduceSum(g.mul(part, part), [1]))
    const square = joined(g, sums)
    const norm = g.op('Sqrt', [square])
    const first = average(g, norms!, norm, gamma1, step)
    const second = average(g, squares!, square, gamma2, step)
    const target = g.div(first.corrected, g.shift(g.op('Sqrt', [second.corrected]), epsilon))
    const factors = rowsOf(g, g.div(target, atLeastTiny(g, norm)), runs)
    return [parts.map((part, i) => g.mul(part, factors[i]!)), [first.next, second.next]]
  }

  const tensors = segments.length
  return {
    state: [
      { name: 'm', size },
      { name: 'v', size },
      { name: 'norm', size: tensors },
      { name: 'square_norm', size: tensors },
      { name: 'maximum', size: tensors },
    ],
    step(g, { parameter, gradient, state, step, rates }) {
      const [norm, square, maximum] = state.slice(2).map(value => g.reshape(value, [tensors, 1]))
      const [clipped, nextMaximum] = adaClip(g, toRuns(g, gradient, runs), maximum!, step)
      const [steadied, means] = adaGn(g, clipped, [norm!, square!], step)
      const [[m, v], adamStep] = sinceReset(g, state.slice(0, 2), step, resetEvery)
      const next = adamW(g, {
        parameter,
        gradient: piecesAsVector(g, steadied),
        m: m!,
        v: v!,
        step: adamStep,
        learningRate: rates,
        epsilon,
      })
      const statistics = [...means, nextMaximum].map(value => g.reshape(value, [tensors]))
      return { parameter: next.parameter, state: [next.m, next.v, ...statistics] }
    },
  }
}
