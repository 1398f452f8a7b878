/** @file Weights of unusual size: whole ones or single columns many times larger or smaller, zeros, numbers that are none. */

import type { Random } from '../../src/calibration/rng.ts'
import type { Onnx } from '../../src/graph/onnx-proto.ts'

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

/** Weights and gains of `model` are changed in place: up to three of them. */
export function rescaleWeights(random: Random, model: Onnx.IModelProto): void {
  const tensors = model.graph!.initializer!.filter(
    ({ dataType, rawData }) => dataType === FLOAT && rawData && rawData.length > 0,
  )
  if (tensors.length === 0) return
  for (let n = 1 + random.int(3); n > 0; n--) {
    const tensor = tensors[random.int(tensors.length)]!
    const w = new Float32Array(Uint8Array.from(tensor.rawData!).buffer)
    CHANGES[random.int(CHANGES.length)]!(random, w, Number(tensor.dims!.at(-1)))
    tensor.rawData = new Uint8Array(w.buffer)
  }
}
