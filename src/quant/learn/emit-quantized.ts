/** @file Emits the fake-quantized constants of a block, and the block computed with them. Training and folding share it. */

import type { Builder } from '../../graph/builder.ts'
import type { DType } from '../../graph/dtype.ts'
import { floatTypeOf } from '../../graph/float-type.ts'
import type { Node, Value } from '../../graph/ir.ts'
import { castRoundSte } from '../../kernels/round-ste.ts'
import { emitRangeSteps } from '../../kernels/static-range.ts'
import { emitFakeQuantize, emitWeightRange, type FakeQuantized } from '../../kernels/weights.ts'
import type { Linear } from '../find/linears.ts'
import type { ActivationSite } from '../plan/activation-sites.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import type { SiteConstants } from '../plan/site-constants.ts'
import { type Changes, emitBlock, type Weights } from './emit-block.ts'
import type { BlockConstants } from './learnable.ts'
import { applyLearned } from './learnables.ts'
import { staticSites } from './ranges.ts'

/** Constants of a block with the numbers that will be stored. */
export interface QuantizedConstants {
  /** Before they are quantized. */
  readonly weights: Weights
  readonly quantized: ReadonlyMap<Linear, FakeQuantized>
  readonly changes: Changes
  /** Numbers of the sites of activations that have any. */
  readonly siteConstants: ReadonlyMap<ActivationSite, SiteConstants<Value>>
}

/** The number that is stored for `value`, with the identity as gradient. */
const stored = (g: Builder, value: Value, dtype: DType): Value =>
  dtype === 'float16' ? castRoundSte(g, value, 'float16') : value

/** Changed constants and biases in the types they will be stored in. */
function storedChanges(g: Builder, { changedSites }: BlockPlan, { constants, biases }: BlockConstants): Changes {
  const sites = new Map<Node, Map<number, Value>>()
  for (const { site, dtype } of changedSites) {
    const value = constants.get(site.node)?.get(site.input)
    if (!value) continue
    const inputs = sites.get(site.node) ?? new Map<number, Value>()
    sites.set(site.node, inputs.set(site.input, stored(g, value, dtype)))
  }
  return {
    constants: sites,
    biases: new Map(
      [...biases].map(([linear, bias]) => [linear, stored(g, bias, floatTypeOf(linear.origin.inputs[1]!))]),
    ),
  }
}

/**
 * Applies the parameters to the block's constants and quantizes each weight once.
 * @param parameters by name; undefined: rounding to nearest alone. @param outer program around the loop that `g` is the body of. It
 * computes the ranges of weights that no parameter changes, once for all steps.
 */
export function emitQuantized(
  g: Builder,
  plan: BlockPlan,
  weights: Weights,
  parameters: ReadonlyMap<string, Value> | undefined,
  outer: Builder = g,
): QuantizedConstants {
  const constants = applyLearned(g, plan, weights, parameters)
  const quantized = [...plan.quantizers].map(([linear, quantizer]): [Linear, FakeQuantized] => {
    const weight = constants.weights.get(linear)!
    const range = emitWeightRange(weight === weights.get(linear) ? outer : g, weight, quantizer.group)
    return [
      linear,
      emitFakeQuantize(g, weight, range, quantizer, {
        ratios: constants.clipRatios.get(linear),
        offset: constants.roundingOffsets.get(linear),
      }),
    ]
  })
  const siteConstants = new Map(constants.siteConstants)
  for (const site of staticSites(plan)) {
    const range = constants.ranges.get(site)
    if (range) siteConstants.set(site, { ...siteConstants.get(site), ...emitRangeSteps(g, range, site.quantizer) })
  }
  const changes = storedChanges(g, plan, constants)
  return { weights: constants.weights, quantized: new Map(quantized), changes, siteConstants }
}

/** The fake-quantized block: x -> y with weights and activations as they will be stored and computed. Parameters as above. */
export function emitQuantizedBlock(
  g: Builder,
  plan: BlockPlan,
  x: Value,
  weights: Weights,
  parameters: ReadonlyMap<string, Value> | undefined,
  outer: Builder = g,
): Value {
  const { quantized, changes, siteConstants } = emitQuantized(g, plan, weights, parameters, outer)
  const fake = new Map([...weights, ...[...quantized].map(([linear, { output }]) => [linear, output] as const)])
  return emitBlock(g, plan.block, x, fake, { changes, activationSites: plan.activationSites, siteConstants })
}
