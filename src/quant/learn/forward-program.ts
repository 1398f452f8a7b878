/** @file Forward program of a block, with observations of activations and counts of tokens. */

import { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/ir.ts'
import { Graph } from '../../graph/ir.ts'
import { staticShape } from '../../graph/shape.ts'
import type { Expert } from '../find/experts.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import { emitBlock } from './emit-block.ts'
import {
  type ChangedConstants,
  changeInputs,
  collectedName,
  maximumName,
  minimumName,
  siteInputs,
  tokensName,
  weightInputs,
} from './ports.ts'
import { emitTokenCount } from './token-counts.ts'

export interface ForwardOptions {
  /** Changed constants, which become run inputs. */
  readonly changed?: ChangedConstants | undefined
  /** Quantize activations as the plan says. */
  readonly quantized?: boolean
  /** Values whose channel ranges become outputs. */
  readonly observed?: readonly Value[]
  /** Values that become outputs as they are, behind the matrix of their site. */
  readonly collected?: readonly Value[] | undefined
  /** Experts whose numbers of tokens become outputs. */
  readonly counted?: readonly Expert[] | undefined
}

/**
 * x [batch, tokens, hidden], weights, changed constants c{j} and biases b{j} -> y, the block's output, and for
 * the j-th of the `observed` values max{j}, min{j} [channels], of the `collected` ones collected{j}, of the `counted` experts tokens{j} [].
 */
export function forwardProgram(plan: BlockPlan, options: ForwardOptions = {}): Graph {
  const g = new Builder(new Graph('forward'))
  const { block, activationSites } = plan
  const x = g.input('x', 'float32', staticShape(block.input))
  const weights = weightInputs(g, block)
  const changes = options.changed && changeInputs(g, options.changed)
  const values = new Map<Value, Value>()
  const transformed = new Map<Value, Value>()
  const y = emitBlock(g, block, x, weights, {
    changes,
    activationSites,
    quantized: options.quantized ?? false,
    siteConstants: options.changed && siteInputs(g, options.changed),
    values,
    transformed,
  })
  g.output(y, 'y')
  options.observed?.forEach((value, j) => {
    const rank = staticShape(value).length
    const reduce = (op: string) => g.op(op, [values.get(value)!, g.ints([...Array(rank - 1).keys()])], { keepdims: 0 })
    g.output(reduce('ReduceMax'), maximumName(j))
    g.output(reduce('ReduceMin'), minimumName(j))
  })
  options.collected?.forEach((value, j) =>
    g.output(g.op('Identity', [transformed.get(value) ?? values.get(value)!]), collectedName(j)),
  )
  options.counted?.forEach((expert, j) => g.output(emitTokenCount(g, expert, values), tokensName(j)))
  return g.graph
}
