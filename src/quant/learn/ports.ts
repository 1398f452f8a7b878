/** @file Names and run inputs by which the programs of a block exchange weights and constants. */

import type { Builder } from '../../graph/builder.ts'
import type { Node, Value } from '../../graph/ir.ts'
import type { EmittedSteps } from '../../kernels/static-range.ts'
import type { Block } from '../find/blocks.ts'
import type { Linear } from '../find/linears.ts'
import type { ActivationSite } from '../plan/activation-sites.ts'
import type { ChangedSite } from '../plan/block-plan.ts'
import type { Changes, Weights } from './emit-block.ts'

/** Constants that learning has changed, besides the weights. */
export interface ChangedConstants {
  readonly sites: readonly ChangedSite[]
  /** Linears to whose result a learned bias is added. */
  readonly biases: readonly Linear[]
  /** Sites whose fixed range is known. */
  readonly ranges: readonly ActivationSite[]
}

/** Name of the run input that carries the weight of the block's i-th linear, float32 [K, N]. */
export const weightInput = (i: number): string => `w${i}`

/**
 * Weights are run inputs, not constants: onnxruntime neither copies nor rearranges those, so a program costs no memory
 * beyond the block's own weights (onnxruntime 1.30).
 */
export function weightInputs(g: Builder, block: Block): Weights {
  return new Map(
    block.linears.map((linear, i) => [
      linear,
      g.input(weightInput(i), 'float32', [linear.inFeatures, linear.outFeatures]),
    ]),
  )
}

/** Name of the run input or output that carries the j-th changed site, in the site's shape. */
export const constantName = (j: number): string => `c${j}`

/** Name of the run input or output that carries the j-th added bias, [N]. */
export const biasName = (j: number): string => `b${j}`

/** Name of the run input or output that carries the scale of the j-th site with a range, []. */
export const siteScaleName = (j: number): string => `site_scale${j}`

/** Name of the run input or output that carries its zero point, float32 []. */
export const siteZeroName = (j: number): string => `site_zero${j}`

/** Changed constants as run inputs. */
export function changeInputs(g: Builder, changed: ChangedConstants): Changes {
  const constants = new Map<Node, Map<number, Value>>()
  changed.sites.forEach(({ site: { node, input } }, j) => {
    const value = g.input(constantName(j), 'float32', node.inputs[input]!.tensor!.dims)
    constants.set(node, (constants.get(node) ?? new Map<number, Value>()).set(input, value))
  })
  const biases = changed.biases.map((linear, j): [Linear, Value] => [
    linear,
    g.input(biasName(j), 'float32', [linear.outFeatures]),
  ])
  return { constants, biases: new Map(biases) }
}

/** Scales and zero points of fixed ranges as run inputs. */
export function stepInputs(g: Builder, { ranges }: ChangedConstants): ReadonlyMap<ActivationSite, EmittedSteps> {
  return new Map(
    ranges.map((site, j) => [
      site,
      { scale: g.input(siteScaleName(j), 'float32', []), zeroPoint: g.input(siteZeroName(j), 'float32', []) },
    ]),
  )
}
