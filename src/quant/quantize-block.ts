/** @file One block's job: learn its parameters, fold them into numbers to store, and run the block as it will ship. */

import type { ActivationStore } from '../calibration/activation-store.ts'
import type { Graph } from '../graph/ir.ts'
import { staticShape } from '../graph/shape.ts'
import { readElements, tensorOf } from '../graph/tensor.ts'
import { readFloats } from '../kernels/float16.ts'
import { type PackedPlanes, packPlanes } from '../kernels/pack-planes.ts'
import { type PackedWeight, packMatMulNBits } from '../kernels/pack.ts'
import { packRounded, roundStored } from '../kernels/pack-rounded.ts'
import { firstUnsound, placeOf, requireSound, shownFloat } from '../kernels/magnitude.ts'
import type { WeightQuantizer } from '../kernels/qparams.ts'
import { compile, runGraph, type SessionOptions, type Tensors } from '../kernels/session.ts'
import { transpose2d } from '../kernels/tensor.ts'
import type { Block } from './blocks.ts'
import { clipParameters } from './clipping.ts'
import { equivalenceParameters, type InitialEquivalence } from './equivalence.ts'
import type { TokenCounts } from './experts.ts'
import { isFused } from './fused-experts.ts'
import type { Linear } from './linears.ts'
import { ParameterVector } from './parameters.ts'
import type { BlockPlan } from './plan.ts'
import { biasName, constantName, foldPrograms, forwardProgram, weightInput } from './programs.ts'
import { type ChannelRanges } from './smooth.ts'

/** The weight as float32 [K, N], read from disk: nothing is kept. @throws E_UNSUPPORTED when it holds what is no sound number. */
function readWeight({ name, weight, transposed, inFeatures, outFeatures }: Linear): Float32Array {
  const stored = readFloats(weight.tensor!)
  requireSound(stored, transposed ? inFeatures : outFeatures, `the weight of ${name}`)
  return transposed ? transpose2d(stored, outFeatures, inFeatures) : stored
}

/** The block's weights as run inputs of its programs. */
export function readWeights({ linears }: Block): Tensors {
  return Object.fromEntries(
    linears.map((linear, i) => [
      weightInput(i),
      tensorOf('float32', [linear.inFeatures, linear.outFeatures], readWeight(linear)),
    ]),
  )
}

/** Constants to run a block with. */
export interface BlockVersion {
  /** Weights w{i} and, where transformed, constants c{j} and biases b{j}. */
  readonly feeds: Tensors
  /** Whether the constants are those of the transformed block. */
  readonly transformed: boolean
  /** Whether activations are quantized, if the plan says so. */
  readonly quantized: boolean
}

/** The block as it is in the user's model. */
export const floatVersion = (weights: Tensors): BlockVersion => ({
  feeds: weights,
  transformed: false,
  quantized: false,
})

export interface BlockStreams {
  readonly from: ActivationStore
  /** Where the outputs go, if they are wanted; may be `from`. */
  readonly to?: ActivationStore
  /** What the outputs should be, if that is to be measured. */
  readonly target?: ActivationStore
  /** What is to be found out about activations inside. */
  readonly ranges?: ChannelRanges | undefined
  /** Whose tokens are to be counted. */
  readonly counts?: TokenCounts | undefined
  /** Looks at the outputs of every sample, and throws when it does not like them. */
  readonly check?: ((y: Float32Array, sample: number) => void) | undefined
}

/** Runs the block over every sample. @returns the mean squared error against `target`, if there is one. */
export async function runBlock(
  plan: BlockPlan,
  { feeds, ...version }: BlockVersion,
  { from, to, target, ranges, counts, check }: BlockStreams,
  session: SessionOptions,
  onProgress?: (done: number, total: number) => void,
): Promise<number> {
  const shape = staticShape(plan.block.input)
  const observed = ranges?.values ?? []
  const forward = await compile(forwardProgram(plan, { ...version, observed, counted: counts?.experts }), session)
  let error = 0
  try {
    for (let i = 0; i < from.samples; i++) {
      const outputs = await forward.run({ x: tensorOf('float32', shape, from.read(i, 1)), ...feeds })
      const y = readElements(outputs.y!) as Float32Array
      check?.(y, i)
      if (target) error += meanSquaredError(y, target.read(i, 1))
      to?.write(i, y)
      ranges?.add(outputs)
      counts?.add(outputs)
      onProgress?.(i + 1, from.samples)
    }
  } finally {
    await forward.release()
  }
  return error / from.samples
}

function meanSquaredError(a: Float32Array, b: Float32Array): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += (a[i]! - b[i]!) ** 2
  return sum / a.length
}

export interface LearnSettings {
  /** Learning rate of the clipping; undefined: no clipping is learned. */
  readonly clipRate: number | undefined
  /** Learning rate of the transformations. */
  readonly equivalenceRate: number
  /** Linears that are rounded to nearest, whatever the others learn. */
  readonly held?: ReadonlySet<Linear> | undefined
}

/** What is learned for a block. `initial`: where each of the plan's mappings starts. */
export function blockParameters(
  plan: BlockPlan,
  initial: readonly InitialEquivalence[],
  { clipRate, equivalenceRate, held }: LearnSettings,
): ParameterVector {
  return new ParameterVector([
    ...(clipRate === undefined ? [] : clipParameters(plan, clipRate, held)),
    ...equivalenceParameters(plan, initial, equivalenceRate, held),
  ])
}

/** Parameters of a block and their values. */
export interface Learned {
  readonly vector: ParameterVector
  readonly parameters: Float32Array
}

export interface Folded extends BlockVersion {
  /** One per linear of the block, in order; undefined for those that stay float. */
  readonly packed: readonly (PackedWeight | PackedPlanes | undefined)[]
  /** What of it is no sound number, where something is: nothing of it can be stored then. */
  readonly unsound?: string | undefined
}

/** Whether a linear is multiplied with integers: that needs one scale per output; with groups MatMulNBits dequantizes the weight. */
const isInPlanes = ({ activations }: BlockPlan, linear: Linear, { group }: WeightQuantizer): boolean =>
  activations !== undefined && group >= linear.inFeatures && !isFused(linear)

/**
 * The block's weights rounded to nearest: the numbers of `foldBlock` without parameters, for blocks that are not run. Weights are read
 * from the model's files, some MB at a time.
 * @throws E_UNSUPPORTED when a weight is no sound number.
 */
export function roundBlock(plan: BlockPlan): Folded['packed'] {
  return plan.block.linears.map(linear => {
    const quantizer = plan.quantizers.get(linear)
    if (!quantizer) return undefined
    const { name, weight, transposed, inFeatures: K, outFeatures: N } = linear
    const stored = { name, tensor: weight.tensor!, transposed }
    return isInPlanes(plan, linear, quantizer)
      ? packPlanes({ ...roundStored(stored, quantizer), ...quantizer, K, N })
      : packRounded(stored, { ...quantizer, blockSize: plan.blockSizes.get(linear) })
  })
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
