/**
 * @file GPTQ (arXiv 2210.17323): codes of a weight, one input channel after the other, where each takes up what those before it did to
 * the output. With act-order: the channels with the largest inputs go first, over scales that are fixed before (static groups).
 *
 * GPTQ is Babai's nearest plane on the Cholesky factor of the Hessian itself, from the last channel to the first (arXiv 2507.18553): no
 * inverse is needed. With H = L L^T, errors e_j = w_j - q_j of the channels behind i, q_i is the code nearest to
 *   w_i + sum over j > i of L_ji e_j / L_ii.
 */

import { zeros } from '../../autodiff/fragments.ts'
import { QuantError } from '../../errors.ts'
import { Builder } from '../../graph/builder.ts'
import { Graph, Node, Value } from '../../graph/ir.ts'
import { tensorOf } from '../../graph/tensor.ts'
import { readFloats } from '../float16.ts'
import { groupsOf, qMax, type WeightQuantizer } from '../qparams.ts'
import type { Programs } from '../programs.ts'
import type { SessionOptions } from '../session.ts'
import { emitCodes, plainCodes } from '../steps.ts'
import { cholesky, PANEL, tallInput, tallOp } from './cholesky.ts'

/**
 * Options of the programs of this folder: numbers of rows differ from run to run, so there is no plan of memory to keep. float64 is for
 * the CPU.
 */
export const gptqSession = (session: SessionOptions): SessionOptions => ({
  ...session,
  device: 'cpu',
  memoryPattern: false,
})

/** Shares of the mean of the diagonal that are added to it, tried in this order. 0.01 is the papers'. */
const DAMPINGS = [0.01, 0.1, 1]

/** Cholesky factor of a damped Hessian, with the order of its channels. */
export interface FactoredHessian {
  readonly K: number
  /** Channel at each place. The last place is quantized first: it has the largest input. */
  readonly order: Int32Array
  /** As `cholesky` gives them. Places from K on are filled up with the identity. */
  readonly panels: readonly Float32Array[]
}

/**
 * Factors the Hessian of a linear's inputs.
 * @param hessian sum or mean of x x^T over the inputs x, [K, K]. Its scale does not matter.
 * @param name of the linear, for messages.
 * @throws E_UNSUPPORTED when it is not positive definite, however damped: it holds NaN or infinite numbers.
 */
export async function factorHessian(
  hessian: Float32Array,
  K: number,
  name: string,
  programs: Programs,
): Promise<FactoredHessian> {
  const diagonal = Float64Array.from({ length: K }, (_, i) => hessian[i * (K + 1)]!)
  const mean = diagonal.reduce((sum, value) => sum + value, 0) / K
  const order = Int32Array.from([...diagonal.keys()].sort((a, b) => diagonal[a]! - diagonal[b]! || b - a))
  const panels = Math.ceil(K / PANEL)
  const size = panels * PANEL
  for (const damping of DAMPINGS) {
    const added = mean > 0 ? damping * mean : 1
    const panelOf = (p: number): Float32Array => {
      const first = p * PANEL
      const panel = new Float32Array((size - first) * PANEL)
      for (let row = first; row < size; row++)
        for (let column = first; column < first + PANEL; column++) {
          const at = (row - first) * PANEL + column - first
          if (row < K && column < K) panel[at] = hessian[order[row]! * K + order[column]!]!
          if (row === column) panel[at] = row < K ? panel[at]! + added : 1
        }
      return panel
    }
    const factor = await cholesky(panels, panelOf, programs)
    if (factor) return { K, order, panels: factor }
  }
  throw new QuantError(
    'E_UNSUPPORTED',
    `the inputs of ${name} are too large for GPTQ: their products have no Cholesky factor in float32`,
    `Leave it as it is, with --ignore ${name}, or quantize without GPTQ.`,
  )
}

/**
 * Codes of PANEL channels. In: w, scale and zero [PANEL, N]; lower [PANEL, PANEL], below [rows, PANEL], the panel of the factor; errors
 * [rows, N] of the channels behind it; loss [N] so far. Out: next_loss, offset and error [PANEL, N], from the last channel to the first.
 */
function sweepProgram(N: number, top: number): Graph {
  const outer = new Builder(new Graph('sweep'))
  const input = (name: string, columns: number) => outer.input(name, 'float32', [PANEL, columns])
  const [w, scale, zero, lower] = [input('w', N), input('scale', N), input('zero', N), input('lower', PANEL)]
  const before = outer.input('loss', 'float32', [N])
  const [below, errors] = [tallInput(outer, 'below', PANEL), tallInput(outer, 'errors', N)]
  const turned = new Value(outer.names.fresh('turned'), 'float32', [PANEL, 'rows'])
  const perm = { type: 'ints' as const, value: [1, 0] }
  outer.graph.nodes.push(new Node('Transpose', [below], [turned], new Map([['perm', perm]]), '', turned.name))
  const behind = tallOp(outer, 'MatMul', [turned, errors], [PANEL, N])

  const g = new Builder(new Graph('channel'), outer.names)
  const iteration = g.input('iteration', 'int64', [])
  const condition = g.input('continue', 'bool', [])
  const done = g.input('done', 'float32', [PANEL, N])
  const loss = g.input('loss_before', 'float32', [N])
  const place = g.sub(g.scalar(PANEL - 1, 'int64'), iteration)
  const row = (matrix: Value) => g.op('Gather', [matrix, place], { axis: 0 })
  const column = g.op('Gather', [lower, place], { axis: 1 })
  const pivot = g.op('Gather', [column, place], { axis: 0 })
  const beside = g.reshape(g.matMul(g.reshape(column, [1, PANEL]), done), [N])
  const [weight, step, middle] = [row(w), row(scale), row(zero)]
  const target = g.add(weight, g.div(g.add(row(behind), beside), pivot))
  const steps = g.sub(plainCodes(g, emitCodes(g, target, step, middle, top)), middle)
  const value = g.mul(steps, step)
  const error = g.sub(weight, value)
  const left = g.mul(pivot, g.sub(target, value))
  const more = g.add(loss, g.mul(left, left))
  const next = g.op('ScatterND', [done, g.reshape(place, [1, 1]), g.reshape(error, [1, N])])
  const offset = g.sub(steps, g.div(weight, step))
  for (const each of [g.op('Identity', [condition]), next, more, offset, error]) g.output(each)

  const results = ['last', 'next_loss', 'offset', 'error']
  const outputs = results.map(
    name => new Value(outer.names.fresh(name), 'float32', name === 'next_loss' ? [N] : [PANEL, N]),
  )
  const body = new Map([['body', { type: 'graph' as const, value: g.graph }]])
  const start = zeros(outer, [PANEL, N], 'float32')
  outer.graph.nodes.push(new Node('Loop', [outer.scalar(PANEL, 'int64'), undefined, start, before], outputs, body))
  outer.graph.outputs.push(...outputs.slice(1))
  return outer.graph
}

/** A weight with the scales its codes are chosen for. */
export interface ScaledWeight {
  /** [K, N] */
  readonly w: Float32Array
  readonly N: number
  readonly quantizer: WeightQuantizer
  /** [G, N] */
  readonly scale: Float32Array
  readonly zeroPoint: Float32Array
}

export interface GptqCodes {
  /** Steps that, added to w / scale before it is rounded, give the codes, [K, N]. */
  readonly offset: Float32Array
  /** Weight the codes stand for, [K, N]. */
  readonly quantized: Float32Array
  /** e^T H e of every column's error e, under the damped Hessian, [N]. */
  readonly loss: Float32Array
}

/** Codes of `weight` for which products with its inputs change little. Takes three times the weight's memory, besides the factor. */
export async function gptqCodes(
  { w, N, quantizer, scale, zeroPoint }: ScaledWeight,
  { K, order, panels }: FactoredHessian,
  programs: Programs,
): Promise<GptqCodes> {
  const { size: groupSize } = groupsOf(K, quantizer.group)
  const offset = new Float32Array(K * N)
  const quantized = Float32Array.from(w)
  let loss = tensorOf('float32', [N], new Float32Array(N))
  const errors = new Float32Array(panels.length * PANEL * N)
  const matrix = (numbers: Float32Array, columns: number) =>
    tensorOf('float32', [numbers.length / columns, columns], numbers)
  const top = qMax(quantizer.bits)
  const sweep = await programs.get(`sweep ${N} ${top}`, () => sweepProgram(N, top))
  for (let p = panels.length - 1; p >= 0; p--) {
    const first = p * PANEL
    const count = Math.min(PANEL, K - first)
    const own = {
      w: new Float32Array(PANEL * N),
      scale: new Float32Array(PANEL * N).fill(1),
      zero: new Float32Array(PANEL * N),
    }
    for (let i = 0; i < count; i++) {
      const channel = order[first + i]!
      const group = Math.floor(channel / groupSize)
      own.w.set(w.subarray(channel * N, (channel + 1) * N), i * N)
      own.scale.set(scale.subarray(group * N, (group + 1) * N), i * N)
      own.zero.set(zeroPoint.subarray(group * N, (group + 1) * N), i * N)
    }
    const result = await sweep.run({
      w: matrix(own.w, N),
      scale: matrix(own.scale, N),
      zero: matrix(own.zero, N),
      lower: matrix(panels[p]!.subarray(0, PANEL * PANEL), PANEL),
      below: matrix(panels[p]!.subarray(PANEL * PANEL), PANEL),
      errors: matrix(errors.subarray((first + PANEL) * N), N),
      loss,
    })
    loss = result['next_loss']!
    const [offsets, error] = [readFloats(result['offset']!), readFloats(result['error']!)]
    for (let i = 0; i < PANEL; i++) {
      const from = (PANEL - 1 - i) * N
      errors.set(error.subarray(from, from + N), (first + i) * N)
      if (i >= count) continue
      const to = order[first + i]! * N
      offset.set(offsets.subarray(from, from + N), to)
      for (let n = 0; n < N; n++) quantized[to + n]! -= error[from + n]!
    }
  }
  return { offset, quantized, loss: readFloats(loss) }
}
