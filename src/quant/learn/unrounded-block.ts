/** @file A block with everything that was learned applied but rounding: its weights, their scales, and how to run it. */

import type { Graph } from '../../graph/ir.ts'
import { readFloats } from '../../kernels/float16.ts'
import type { SessionOptions, Tensors } from '../../kernels/session.ts'
import type { Linear } from '../find/linears.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import type { BlockVersion } from './block-version.ts'
import { foldPrograms } from './fold-programs.ts'
import type { Learned } from './learned.ts'
import { weightInput } from './ports.ts'
import { foldInputs, runFold } from './run-fold.ts'

/** A weight that is to be rounded. */
export interface UnroundedWeight {
  /** Transformed as learned, [K, N]. */
  readonly w: Float32Array
  /** [G, N] each. */
  readonly scale: Float32Array
  readonly zeroPoint: Float32Array
}

export interface UnroundedBlock {
  /** The block with these weights; activations are quantized as the plan says. */
  readonly version: BlockVersion
  /** Weight of a linear that has a quantizer. @param parameters for its scales, in place of those of the block. */
  readonly weightOf: (linear: Linear, parameters?: Float32Array) => Promise<UnroundedWeight>
}

/** The block with `learned`, before its weights are rounded. @param weights run inputs w{i}. */
export async function unroundedBlock(
  plan: BlockPlan,
  weights: Tensors,
  learned: Learned | undefined,
  session: SessionOptions,
): Promise<UnroundedBlock> {
  const { linears, changed, constants } = foldPrograms(plan, learned?.vector)
  const outputsOf = async (program: Graph, parameters = learned?.parameters) => {
    const results = await runFold(program, foldInputs(weights, parameters), session)
    return program.outputs.map(({ name }) => results[name]!)
  }
  const inputs = foldInputs(weights, learned?.parameters)
  const feeds: Tensors = { ...weights, ...(constants && (await runFold(constants, inputs, session))) }
  for (const { index, transformed } of linears)
    if (transformed) feeds[weightInput(index)] = (await outputsOf(transformed))[0]!
  return {
    version: { feeds, changed, quantized: true },
    weightOf: async (linear, parameters) => {
      const { index, scales } = linears.find(each => each.linear === linear)!
      const [scale, zeroPoint] = await outputsOf(scales, parameters)
      return { w: readFloats(feeds[weightInput(index)]!), scale: readFloats(scale!), zeroPoint: readFloats(zeroPoint!) }
    },
  }
}
