/** @file Second moments of what the linears of a block read, over all samples. */

import type { ActivationStore } from '../../calibration/activation-store.ts'
import { Builder } from '../../graph/builder.ts'
import { Graph, type Value } from '../../graph/ir.ts'
import { staticShape } from '../../graph/shape.ts'
import { elementCount, type Tensor, tensorOf } from '../../graph/tensor.ts'
import { readFloats } from '../../kernels/float16.ts'
import { compile, type SessionOptions } from '../../kernels/session.ts'
import type { Linear } from '../find/linears.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import type { BlockVersion } from './block-version.ts'
import { emitBlock } from './emit-block.ts'
import { changeInputs, stepInputs, weightInputs } from './ports.ts'

/** Moments: squares, the sum of x^2 in each channel, [K]; products, the sum of x x^T, [K, K]. */
export type Moments = 'squares' | 'products'

const MOMENTS: Readonly<Record<Moments, (g: Builder, x: Value) => Value>> = {
  squares: (g, x) => g.reduceSum(g.mul(x, x), [0], false),
  products: (g, x) => g.matMul(g.transpose(x, [1, 0]), x),
}

export interface MomentsRun {
  readonly from: ActivationStore
  readonly of: Moments
  readonly linears: readonly Linear[]
}

/** Moments of the inputs of `linears`, over all samples of `from`. Linears that read the same share theirs. */
export async function inputMoments(
  { block, activationSites }: BlockPlan,
  { feeds, changed, quantized }: BlockVersion,
  { from, of, linears }: MomentsRun,
  session: SessionOptions,
  onProgress?: (done: number, total: number) => void,
): Promise<Map<Linear, Float32Array>> {
  const g = new Builder(new Graph('moments'))
  const shape = staticShape(block.input)
  const x = g.input('x', 'float32', shape)
  const weights = weightInputs(g, block)
  const reads = new Map<Linear, Value>()
  emitBlock(g, block, x, weights, {
    changes: changed && changeInputs(g, changed),
    activationSites: quantized ? activationSites : [],
    steps: changed && stepInputs(g, changed),
    reads,
  })
  const read = [...new Set(linears.map(linear => reads.get(linear)!))]
  const sums = new Map<string, Tensor>()
  read.forEach((value, j) => {
    const K = staticShape(value).at(-1)!
    const rows = elementCount(staticShape(value)) / K
    const moment = MOMENTS[of](g, g.reshape(value, [rows, K]))
    const dims = staticShape(moment)
    const before = g.input(`before${j}`, 'float32', dims)
    g.output(g.add(before, moment), `moment${j}`)
    sums.set(before.name, tensorOf('float32', dims, new Float32Array(elementCount(dims))))
  })
  const program = await compile(g.graph, session)
  try {
    for (let i = 0; i < from.samples; i++) {
      const outputs = await program.run({
        ...feeds,
        x: tensorOf('float32', shape, from.read(i, 1)),
        ...Object.fromEntries(sums),
      })
      read.forEach((_, j) => sums.set(`before${j}`, outputs[`moment${j}`]!))
      onProgress?.(i + 1, from.samples)
    }
  } finally {
    await program.release()
  }
  return new Map(linears.map(linear => [linear, readFloats(sums.get(`before${read.indexOf(reads.get(linear)!)}`)!)]))
}
