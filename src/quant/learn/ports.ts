/** @file Names and run inputs by which the programs of a block exchange weights and constants. */

import type { Builder } from '../../graph/builder.ts'
import type { Node, Value } from '../../graph/ir.ts'
import type { Shape } from '../../graph/shape.ts'
import type { Block } from '../find/blocks.ts'
import type { Linear } from '../find/linears.ts'
import type { ActivationSite } from '../plan/activation-sites.ts'
import type { ChangedSite } from '../plan/block-plan.ts'
import { entriesOf, type SiteConstants, type SiteRole } from '../plan/site-constants.ts'
import type { Changes, Weights } from './emit-block.ts'

/** Constants that learning has changed, besides the weights. */
export interface ChangedConstants {
  readonly sites: readonly ChangedSite[]
  /** Linears to whose result a learned bias is added. */
  readonly biases: readonly Linear[]
  /** Shapes of the numbers that sites of activations have. */
  readonly activations: ReadonlyMap<ActivationSite, SiteConstants<Shape>>
}

/** Name of the run input that carries the weight of the block's i-th linear, float32 [K, N]. */
export const weightInput = (i: number, prefix = ''): string => `${prefix}w${i}`

/**
 * Weights are run inputs, not constants: onnxruntime neither copies nor rearranges those, so a program costs no memory
 * beyond the block's own weights (onnxruntime 1.30). `compile` puts them on the device.
 */
export function weightInputs(g: Builder, block: Block, prefix = ''): Weights {
  return new Map(
    block.linears.map((linear, i) => [
      linear,
      g.input(weightInput(i, prefix), 'float32', [linear.inFeatures, linear.outFeatures]),
    ]),
  )
}

/** Name of the run input or output that carries the j-th changed site, in the site's shape. */
export const constantName = (j: number): string => `c${j}`

/** Name of the run input or output that carries the j-th added bias, [N]. */
export const biasName = (j: number): string => `b${j}`

/** Name of the run input or output that carries numbers of the j-th site that has any. */
export const siteName = (j: number, role: SiteRole): string => `site_${role}${j}`

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

/** Numbers of the sites of activations as run inputs. */
export function siteInputs(
  g: Builder,
  { activations }: ChangedConstants,
): ReadonlyMap<ActivationSite, SiteConstants<Value>> {
  return new Map(
    [...activations].map(([site, shapes], j) => [
      site,
      Object.fromEntries(
        entriesOf(shapes).map(([role, shape]) => [role, g.input(siteName(j, role), 'float32', shape)]),
      ),
    ]),
  )
}
