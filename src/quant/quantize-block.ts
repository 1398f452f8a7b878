/** @file One block's job: learn its clipping, fold it into numbers to store, and run the block as it will ship. */

import type { ActivationStore } from '../calibration/activation-store.ts'
import { staticShape } from '../graph/shape.ts'
import { readElements, tensorOf } from '../graph/tensor.ts'
import { readFloats } from '../kernels/float16.ts'
import { type PackedWeight, packMatMulNBits } from '../kernels/pack.ts'
import { requireFinite } from '../kernels/qparams.ts'
import { compile, runGraph, type SessionOptions, type Tensors } from '../kernels/session.ts'
import { transpose2d } from '../kernels/tensor.ts'
import type { Block } from './blocks.ts'
import { clipParameters } from './clipping.ts'
import type { Linear } from './linears.ts'
import { ParameterVector } from './parameters.ts'
import type { BlockPlan } from './plan.ts'
import { foldProgram, forwardProgram, weightInput } from './programs.ts'
import { type Trained, trainBlock, type TrainSettings } from './train-block.ts'

/** The weight as float32 [K, N], read from disk: nothing is kept. @throws E_UNSUPPORTED when it is not finite. */
function readWeight({ name, weight, transposed, inFeatures, outFeatures }: Linear): Float32Array {
  const stored = readFloats(weight.tensor!)
  requireFinite(stored, transposed ? inFeatures : outFeatures, `the weight of ${name}`)
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

export interface BlockStreams {
  readonly from: ActivationStore
  /** Where the outputs go, if they are wanted; may be `from`. */
  readonly to?: ActivationStore
  /** What the outputs should be, if that is to be measured. */
  readonly target?: ActivationStore
}

/** Runs the block over every sample. @returns the mean squared error against `target`, if there is one. */
export async function runBlock(
  block: Block,
  weights: Tensors,
  { from, to, target }: BlockStreams,
  session: SessionOptions,
  onProgress?: (done: number, total: number) => void,
): Promise<number> {
  const shape = staticShape(block.input)
  const forward = await compile(forwardProgram(block), session)
  let error = 0
  try {
    for (let i = 0; i < from.samples; i++) {
      const { y } = await forward.run({ x: tensorOf('float32', shape, from.read(i, 1)), ...weights })
      const output = readElements(y!) as Float32Array
      if (target) error += meanSquaredError(output, target.read(i, 1))
      to?.write(i, output)
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

export interface LearnSettings extends TrainSettings {
  readonly learningRate: number
}

/** Learns the clipping of a block. `x`: inputs from the quantized path; `y`: targets from the float model. */
export async function learnBlock(
  plan: BlockPlan,
  streams: { readonly x: ActivationStore; readonly y: ActivationStore },
  weights: Tensors,
  settings: LearnSettings,
): Promise<Trained & { vector: ParameterVector }> {
  const vector = new ParameterVector(clipParameters(plan, settings.learningRate))
  return { vector, ...(await trainBlock(plan, vector, streams, weights, settings)) }
}

export interface Folded {
  /** One per linear of the block, in order. */
  readonly packed: readonly PackedWeight[]
  /** The weights the packed numbers stand for, as run inputs. */
  readonly weights: Tensors
}

/** Quantizes the block's weights with what was learned, or to nearest without it. */
export async function foldBlock(
  plan: BlockPlan,
  weights: Tensors,
  learned: { readonly vector: ParameterVector; readonly parameters: Float32Array } | undefined,
  session: SessionOptions,
): Promise<Folded> {
  const feeds = learned && { parameters: tensorOf('float32', [learned.vector.size], learned.parameters) }
  const result = await runGraph(foldProgram(plan, learned?.vector), { ...weights, ...feeds }, session)
  const packed = [...plan.quantizers].map(([linear, quantizer], i) =>
    packMatMulNBits({
      codes: readElements(result[`codes${i}`]!) as Uint8Array,
      scale: readElements(result[`scale${i}`]!) as Float32Array,
      zeroPoint: readElements(result[`zero_point${i}`]!) as Uint8Array,
      K: linear.inFeatures,
      N: linear.outFeatures,
      ...quantizer,
    }),
  )
  const folded = packed.map((_, i) => [weightInput(i), result[`weight${i}`]!] as const)
  return { packed, weights: Object.fromEntries(folded) }
}
