/** @file Refuses models whose gains, biases or hidden states are no sound numbers (kernels/magnitude.ts), and says where they lie. */

import type { StateType } from '../../calibration/activation-store.ts'
import { QuantError } from '../../errors.ts'
import { isFloat } from '../../graph/dtype.ts'
import type { Node, Value } from '../../graph/ir.ts'
import { classOf } from '../../graph/ops.ts'
import { staticShape } from '../../graph/shape.ts'
import { elementCount } from '../../graph/tensor.ts'
import { FLOAT16_MAX, readFloats } from '../../kernels/float16.ts'
import { DAMAGED, firstUnsound, placeOf, shownFloat, unsoundReason } from '../../kernels/magnitude.ts'
import { option } from '../../option-mark.ts'
import type { Analysis } from './analysis.ts'

/** Vectors that `nodes` add to values, or multiply them by. Masks, which may be infinite, are matrices, or chosen by Where. */
function vectorsOf(nodes: readonly Node[]): Set<Value> {
  const operands = nodes.flatMap(({ kind, inputs }) => (classOf(kind) === 'arithmetic' ? inputs : []))
  return new Set(
    operands.filter((value): value is Value => {
      const { dtype, dims } = value?.tensor ?? { dtype: 'bool', dims: [] }
      return isFloat(dtype) && dims.length > 0 && dims.at(-1)! > 1 && dims.at(-1) === elementCount(dims)
    }),
  )
}

/** "NaN at [5]: why"; undefined for numbers that are sound. */
function problemOf(numbers: Float32Array, dims: readonly number[]): string | undefined {
  const i = firstUnsound(numbers)
  return i < 0 ? undefined : `${shownFloat(numbers[i]!)} at ${placeOf(i, dims)}: ${unsoundReason(numbers[i]!)}`
}

/**
 * Gains and biases: every vector that arithmetic inside a block reads, and outside those of the hidden size, such as the last
 * norm's. Vectors of the vocabulary may forbid tokens by -Infinity.
 * @throws E_UNSUPPORTED naming all that hold what is no sound number.
 */
export function checkConstants({ working, blocks }: Pick<Analysis, 'working' | 'blocks'>): void {
  const hidden = staticShape(blocks[0]!.input).at(-1)
  const inside = vectorsOf(blocks.flatMap(({ nodes }) => nodes))
  const outside = [...vectorsOf(working.nodes)].filter(({ tensor }) => tensor!.dims.at(-1) === hidden)
  const problems = [...new Set([...inside, ...outside])].flatMap(({ name, tensor }) => {
    const problem = problemOf(readFloats(tensor!), tensor!.dims)
    return problem ? [`"${name}" holds ${problem}`] : []
  })
  if (problems.length > 0) throw new QuantError('E_UNSUPPORTED', problems.join('; '), DAMAGED)
}

/**
 * Hidden states of one sample [.., tokens, channels], between blocks of the float model.
 * @param where "after block 3". @param dtype that they are stored in. @param token id at a position, where it is worth telling. @throws E_UNSUPPORTED
 */
export function checkStates(
  states: Float32Array,
  channels: number,
  sample: number,
  where: string,
  dtype: StateType,
  tokenAt?: (position: number) => number,
): void {
  const i = firstUnsound(states)
  if (i < 0) return
  const position = Math.floor(i / channels)
  const token = tokenAt ? ` (id ${tokenAt(position)})` : ''
  throw new QuantError(
    'E_UNSUPPORTED',
    `the hidden states ${where} hold ${shownFloat(states[i]!)}: sample ${sample}, token ${position}${token}, channel ${i % channels}`,
    dtype === 'float16'
      ? `They are stored as float16, which holds nothing above ${FLOAT16_MAX}: leave out ${option('hiddenStates', 'float16')}.`
      : `The model itself computes it, before anything is quantized. ${DAMAGED}`,
  )
}
