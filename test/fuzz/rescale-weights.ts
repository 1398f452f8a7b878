/**
 * @file Weights of unusual size: whole weights or single columns many times larger or smaller, with or without another weight that
 * makes up for it; zeros; NaN and infinities.
 */

import type { Random } from '../../src/calibration/rng.ts'
import type { Onnx } from '../../src/graph/onnx-file/onnx-proto.ts'

const FLOAT = 1

/** w [rows, columns] -> w, in place. */
type Change = (random: Random, w: Float32Array, columns: number) => void

/** 10^x for x in [low, high). */
const power = (random: Random, low: number, high: number): number => 10 ** (low + (high - low) * random.next())

const CHANGES: readonly Change[] = [
  (random, w) => {
    const factor = power(random, -7, 0)
    for (let i = 0; i < w.length; i++) w[i] = w[i]! * factor
  },
  (random, w) => {
    const factor = power(random, 0, 4)
    for (let i = 0; i < w.length; i++) w[i] = w[i]! * factor
  },
  (random, w, columns) => {
    const factors = Array.from({ length: columns }, () => power(random, -6, 0))
    for (let i = 0; i < w.length; i++) w[i] = w[i]! * factors[i % columns]!
  },
  (random, w, columns) => {
    const zero = random.int(columns)
    for (let i = zero; i < w.length; i += columns) w[i] = 0
  },
  (_, w) => void w.fill(0),
  (random, w) => {
    w[random.int(w.length)] = [NaN, Infinity, 1e38, -1e19][random.int(4)]!
  },
]

/** Chains of weights: one is multiplied and the others are divided, which changes little or nothing of the result of the model. */
const CHAINS: readonly (readonly [string, ...string[]])[] = [
  ['v', 'o'],
  ['up', 'down'],
  ['gain1', 'q', 'k', 'v', 'qkv'],
  ['gain2', 'gate', 'up'],
]

/** Changes weights and gains of `model` in place: a chain, up to two single ones, or both. */
export function rescaleWeights(random: Random, model: Onnx.IModelProto): void {
  const tensors = model.graph!.initializer!.filter(
    ({ dataType, rawData }) => dataType === FLOAT && rawData && rawData.length > 0,
  )
  if (tensors.length === 0) return
  const change = (tensor: Onnx.ITensorProto, how: Change) => {
    const w = new Float32Array(Uint8Array.from(tensor.rawData!).buffer)
    how(random, w, Number(tensor.dims!.at(-1)))
    tensor.rawData = new Uint8Array(w.buffer)
  }
  const singles = random.int(3)
  for (let n = singles; n > 0; n--) change(tensors[random.int(tensors.length)]!, CHANGES[random.int(CHANGES.length)]!)
  if (singles > 0 && random.int(2) === 0) return
  const [first, ...rest] = CHAINS[random.int(CHAINS.length)]!
  const factor = power(random, -7, 7)
  const times = (by: number) => (_: Random, w: Float32Array) => w.forEach((x, i) => (w[i] = x * by))
  for (const tensor of tensors) {
    if (tensor.name === first) change(tensor, times(factor))
    if (rest.includes(tensor.name!)) change(tensor, times(1 / factor))
  }
}
