/** @file Folds a block: runs its fold programs and packs the codes. */

import type { Graph } from '../../graph/ir.ts'
import { readElements, tensorOf } from '../../graph/tensor.ts'
import { firstUnsound, placeOf, shownFloat } from '../../kernels/magnitude.ts'
import { type PackedWeight, packMatMulNBits } from '../../kernels/pack/matmul-nbits.ts'
import { type PackedPlanes, packPlanes } from '../../kernels/pack/planes.ts'
import { runGraph, type SessionOptions, type Tensors } from '../../kernels/session.ts'
import { type BlockPlan, isInPlanes } from '../plan/block-plan.ts'
import type { BlockVersion } from './block-version.ts'
import { foldPrograms } from './fold-programs.ts'
import type { Learned } from './learned.ts'
import { biasName, constantName, weightInput } from './ports.ts'

export interface Folded extends BlockVersion {
  /** One per linear of the block, in order; undefined for those that stay float. */
  readonly packed: readonly (PackedWeight | PackedPlanes | undefined)[]
  /** What of it is no sound number, where something is: nothing of it can be stored then. */
  readonly unsound?: string | undefined
}

/** Quantizes the block's weights with what was learned, or to nearest without it. */
export async function foldBlock(
  plan: BlockPlan,
  weights: Tensors,
  learned: Learned | undefined,
  session: SessionOptions,
): Promise<Folded> {
  const { linears, constants } = foldPrograms(plan, learned?.vector)
  const inputs: Tensors = {
    ...weights,
    ...(learned && { parameters: tensorOf('float32', [learned.vector.size], learned.parameters) }),
  }
  const run = (program: Graph) =>
    runGraph(program, Object.fromEntries(program.inputs.map(({ name }) => [name, inputs[name]!])), session)
  const packed: (PackedWeight | PackedPlanes | undefined)[] = plan.block.linears.map(() => undefined)
  const feeds = { ...weights }
  let unsound: string | undefined
  const check = (what: string, numbers: Float32Array, dims: readonly number[]) => {
    const i = firstUnsound(numbers)
    if (i >= 0) unsound ??= `${what} would hold ${shownFloat(numbers[i]!)} at ${placeOf(i, dims)}`
  }
  // One linear after the other: what takes memory while a weight is rounded is several times the weight.
  for (const { linear, index, program } of linears) {
    const result = await run(program)
    const quantizer = plan.quantizers.get(linear)!
    const weight = {
      codes: readElements(result[`codes${index}`]!) as Uint8Array,
      scale: readElements(result[`scale${index}`]!) as Float32Array,
      zeroPoint: readElements(result[`zero_point${index}`]!) as Uint8Array,
      K: linear.inFeatures,
      N: linear.outFeatures,
      ...quantizer,
      blockSize: plan.blockSizes.get(linear),
    }
    check(`the scales of ${linear.name}`, weight.scale, [weight.scale.length / weight.N, weight.N])
    packed[index] = isInPlanes(plan, linear, quantizer) ? packPlanes(weight) : packMatMulNBits(weight)
    feeds[weightInput(index)] = result[`weight${index}`]!
  }
  if (constants) {
    const values = await run(constants)
    plan.changedSites.forEach(({ site: { node, input } }, j) => {
      const { dims } = values[constantName(j)]!
      check(`"${node.inputs[input]!.name}"`, readElements(values[constantName(j)]!) as Float32Array, dims)
    })
    plan.addedBiases.forEach(({ name }, j) => {
      const bias = values[biasName(j)]!
      check(`the bias of ${name}`, readElements(bias) as Float32Array, bias.dims)
    })
    Object.assign(feeds, values)
  }
  return { packed, feeds, transformed: learned !== undefined, quantized: true, unsound }
}
