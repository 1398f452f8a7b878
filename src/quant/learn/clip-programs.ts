/** @file Programs that try clip ratios on one group of a weight, for some columns at once. */

import { Builder } from '../../graph/builder.ts'
import { Graph, type Value } from '../../graph/ir.ts'
import { tensorOf } from '../../graph/tensor.ts'
import { type EmittedRange, type EmittedRatios, emitFakeQuantize, emitWeightRange } from '../../kernels/weights.ts'
import type { WeightQuantizer } from '../../kernels/qparams.ts'

/** Ratios that are tried for each end of a range. */
const CANDIDATES = 12

/** Least ratio that is tried. Steps of few bits are wide: there it pays to cut off more. */
const leastRatio = (bits: number): number => (bits <= 2 ? 0.3 : 0.6)

/** Clip ratios that are tried, from 1 down. */
function candidateRatios(bits: number): Float32Array {
  const step = (1 - leastRatio(bits)) / (CANDIDATES - 1)
  return Float32Array.from({ length: CANDIDATES }, (_, i) => 1 - i * step)
}

/** Rounding to nearest: w [K, n] -> error [K, n], what the quantized weight is more than w. */
export function roundingProgram(K: number, n: number, quantizer: WeightQuantizer): Graph {
  const g = new Builder(new Graph('rounding'))
  const w = g.input('w', 'float32', [K, n])
  const { output } = emitFakeQuantize(g, w, emitWeightRange(g, w, quantizer.group), quantizer)
  g.output(g.sub(output, w), 'error')
  return g.graph
}

/**
 * Weight of errors: 'none', of all the same; 'channels', of each input channel by itself, which is a diagonal matrix; 'gram', by the
 * whole Gram matrix of the inputs, so that errors of different channels meet.
 */
export type Weighing = 'none' | 'channels' | 'gram'

/** Objective of each column: error [K, n], and gram [K, K] or channels [K] -> loss [n], the diagonal of error^T gram error. */
export function objectiveProgram(K: number, n: number, weighing: Weighing): Graph {
  const g = new Builder(new Graph('objective'))
  const error = g.input('error', 'float32', [K, n])
  const products: Readonly<Record<Weighing, () => Value>> = {
    none: () => error,
    channels: () => g.mul(g.reshape(g.input('channels', 'float32', [K]), [K, 1]), error),
    gram: () => g.matMul(g.input('gram', 'float32', [K, K]), error),
  }
  const product = products[weighing]()
  g.output(g.reduceSum(g.mul(error, product), [0], false), 'loss')
  return g.graph
}

/** Sum of products of inputs: x [tokens, K], gram [K, K] -> more [K, K], gram + x^T x. */
export function gramProgram(tokens: number, K: number): Graph {
  const g = new Builder(new Graph('gram'))
  const x = g.input('x', 'float32', [tokens, K])
  const gram = g.input('gram', 'float32', [K, K])
  g.output(g.add(gram, g.matMul(g.transpose(x, [1, 0]), x)), 'more')
  return g.graph
}

/** Ends of the range that a program chooses: one ratio for both, or the upper one and then the lower one. */
export type ClipStep = 'both' | 'each'

export interface ClipShape {
  readonly rows: number
  readonly K: number
  readonly n: number
  readonly weighing: Weighing
}

/**
 * The best of the candidates for one group of `rows` weights, in each of `n` columns by itself. With e the error of the group, H the
 * part of the Gram matrix for its rows, and r what the other groups add to H e, the objective changes as
 *
 *   sum of e * (H e + 2 r).
 *
 * w [rows, n]; lower [n], the lower ratio so far, where each end has its own; error [K, n], that of all groups, own [rows, n], that of
 * this one, across [rows, K] and square [rows, rows], the group's parts of the Gram matrix
 * -> chosen [rows, n], the new error, chosen_upper and chosen_lower [n]. Where only channels are weighed H is a diagonal, channels [rows],
 * and where nothing is, the identity: groups do not meet then, and there are no inputs but w and lower.
 */
export function clipProgram(step: ClipStep, { rows, K, n, weighing }: ClipShape, quantizer: WeightQuantizer): Graph {
  const g = new Builder(new Graph('clip'))
  const input = (name: string, ...shape: number[]) => g.input(name, 'float32', shape)
  const w = input('w', rows, n)
  const weigh = { none, channels, gram }[weighing]()
  const asGroup: WeightQuantizer = { ...quantizer, group: rows }
  const range = emitWeightRange(g, w, rows)
  const ratios = candidateRatios(quantizer.bits)
  const candidates = g.initializer('candidates', tensorOf('float32', [ratios.length], ratios))

  // Functions from e to H e + 2 r.
  function none(): (e: Value) => Value {
    return e => e
  }
  function channels(): (e: Value) => Value {
    const weights = g.reshape(input('channels', rows), [rows, 1])
    return e => g.mul(weights, e)
  }
  function gram(): (e: Value) => Value {
    const [error, own] = [input('error', K, n), input('own', rows, n)]
    const [across, square] = [input('across', rows, K), input('square', rows, rows)]
    const others = g.scale(g.sub(g.matMul(across, error), g.matMul(square, own)), 2)
    return e => g.add(g.matMul(square, e), others)
  }
  /** Errors of the group [count, rows, n] with ratios [count, n]: every candidate is a group of one tall weight. */
  const errors = (count: number, tried: EmittedRatios): Value => {
    const repeated = (value: Value, shape: number[]) => g.op('Expand', [value, g.ints(shape)])
    const grouped = repeated(g.reshape(w, [1, rows, n]), [count, rows, n])
    const tall = g.reshape(grouped, [count * rows, n])
    const ranges: EmittedRange = {
      lo: repeated(range.lo, [count, n]),
      hi: repeated(range.hi, [count, n]),
      grouped,
    }
    const { output } = emitFakeQuantize(g, tall, ranges, asGroup, { ratios: tried })
    return g.sub(g.reshape(output, [count, rows, n]), grouped)
  }
  /** Ratio [n] of the least objective: the first of equals, which clips least. */
  const best = (tried: (all: Value) => EmittedRatios): Value => {
    const all = g.op('Expand', [g.reshape(candidates, [ratios.length, 1]), g.ints([ratios.length, n])])
    const e = errors(ratios.length, tried(all))
    const cost = g.reduceSum(g.mul(e, weigh(e)), [1], false)
    const index = g.op('ArgMin', [cost], { axis: 0, keepdims: 0, select_last_index: 0 }, { dtype: 'int64' })
    return g.op('Gather', [candidates, index])
  }
  const row = (value: Value, count: number) => g.op('Expand', [g.reshape(value, [1, n]), g.ints([count, n])])
  const both = (): EmittedRatios => {
    const ratio = best(all => ({ max: all, min: all }))
    return { max: ratio, min: ratio }
  }
  const each = (): EmittedRatios => {
    const lower = input('lower', n)
    const max = best(all => ({ max: all, min: row(lower, ratios.length) }))
    return { max, min: best(all => ({ max: row(max, ratios.length), min: all })) }
  }
  const { max, min } = step === 'both' ? both() : each()
  g.output(g.reshape(errors(1, { max: row(max, 1), min: row(min, 1) }), [rows, n]), 'chosen')
  g.output(g.op('Identity', [max]), 'chosen_upper')
  g.output(g.op('Identity', [min]), 'chosen_lower')
  return g.graph
}
