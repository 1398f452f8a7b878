/** @file Emits the fake-quantized constants of a block, and the block computed with them. Training and folding share it. */

import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/ir.ts'
import type { EmittedRange, FakeQuantized } from '../../kernels/weights.ts'
import type { Linear } from '../find/linears.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import { emitClipped } from './clipping.ts'
import { type Changes, emitBlock, type Weights } from './emit-block.ts'
import { emitEquivalence } from './equivalence.ts'

/** What the parameters make of the block's constants; without any, rounding alone. */
export function emitQuantized(
  g: Builder,
  plan: BlockPlan,
  weights: Weights,
  ranges: ReadonlyMap<Linear, EmittedRange>,
  parameters: ReadonlyMap<string, Value> | undefined,
): { readonly quantized: ReadonlyMap<Linear, FakeQuantized>; readonly changes: Changes | undefined } {
  const transformed = parameters && emitEquivalence(g, plan, weights, parameters)
  const quantized = emitClipped(g, plan, transformed?.weights ?? weights, ranges, parameters ?? new Map())
  return { quantized, changes: transformed?.changes }
}

/** The fake-quantized block: x -> y with weights and activations as they will be stored and computed. */
export function emitQuantizedBlock(
  g: Builder,
  plan: BlockPlan,
  x: Value,
  weights: Weights,
  ranges: ReadonlyMap<Linear, EmittedRange>,
  parameters: ReadonlyMap<string, Value> | undefined,
): Value {
  const { quantized, changes } = emitQuantized(g, plan, weights, ranges, parameters)
  const fake = new Map([...weights, ...[...quantized].map(([linear, { output }]) => [linear, output] as const)])
  return emitBlock(g, plan.block, x, fake, { changes, activations: plan.activations })
}
