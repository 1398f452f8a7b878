/** @file Weights of a block as run inputs, read from the model file. */

import { sizeBytes, tensorOf } from '../../graph/tensor.ts'
import { readFloats } from '../../kernels/float16.ts'
import { requireSound } from '../../kernels/magnitude.ts'
import type { SessionOptions, Tensors } from '../../kernels/session.ts'
import { transpose2d } from '../../kernels/transpose.ts'
import type { Block } from '../find/blocks.ts'
import type { Linear } from '../find/linears.ts'
import { type ChangedConstants, weightInput } from './ports.ts'

/** Constants to run a block with. */
export interface BlockVersion {
  /** Weights w{i}, changed constants c{j} and biases b{j}. */
  readonly feeds: Tensors
  /** Changed constants that the feeds have values for; undefined for none. */
  readonly changed?: ChangedConstants | undefined
  /** Activations are quantized as the plan says; false: they stay float. */
  readonly quantized: boolean
}

/** The weight as float32 [K, N], read from disk and not kept. @throws E_UNSUPPORTED when a number in it is NaN or infinite. */
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

/**
 * Bytes of weights from which a block is run without a memory pattern. A block of 172 MiB then takes 714 MiB instead of 1120, in the
 * same time. Small blocks are up to 6 % faster with the pattern (onnxruntime 1.30).
 */
const PATTERN_BYTES = 64 * 2 ** 20

/** Settings for a program over many samples that is given these weights. */
export const sessionFor = (session: SessionOptions, weights: Tensors): SessionOptions => ({
  ...session,
  memoryPattern: Object.values(weights).reduce((sum, weight) => sum + sizeBytes(weight), 0) < PATTERN_BYTES,
})

/** The block as it is in the user's model. */
export const floatVersion = (weights: Tensors): BlockVersion => ({
  feeds: weights,
  quantized: false,
})
