/**
 * @file Choice of the sites that a matrix helps: the error that quantizing the activation leaves in the linears' outputs, as it is and
 * multiplied by the matrix S that learning starts from (affine.ts), on a few calibration samples.
 */

import type { ActivationStore } from '../../calibration/activation-store.ts'
import { Builder } from '../../graph/builder.ts'
import { Graph, type Value } from '../../graph/ir.ts'
import { staticShape } from '../../graph/shape.ts'
import { floatTensor, readElements, tensorOf } from '../../graph/tensor.ts'
import { emitKroneckerProduct } from '../../kernels/kronecker.ts'
import { spreadingMatrix } from '../../kernels/orthonormal.ts'
import { compile, type SessionOptions } from '../../kernels/session.ts'
import { emitFakeQuantizeTokens } from '../../kernels/tokens.ts'
import type { ActivationSite } from '../plan/activation-sites.ts'
import { type AffineSite, affineSites, readersOf } from '../plan/affine-sites.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import type { BlockVersion } from './block-version.ts'
import { emitBlock } from './emit-block.ts'
import { changeInputs, siteInputs, weightInputs } from './ports.ts'

/** Samples that are looked at. */
const SAMPLES = 4

/** A matrix is worth its products where it leaves less than this part of the error (docs/accuracy.md). */
const WORTH = 0.8

/** Bits a token is quantized to here at most: 16 bits leave no error to speak of. */
const MOST_BITS = 8

/** Sum of squares of the error in the outputs of a site's readers, [], for x as it is and for x S. */
function emitErrors(g: Builder, x: Value, site: AffineSite, weights: readonly Value[]): readonly [Value, Value] {
  const { bits } = site.quantizer
  const quantizer = {
    bits: Math.min(bits, MOST_BITS),
    symmetric: 'symmetric' in site.quantizer && site.quantizer.symmetric,
  }
  const [left, right] = site.factors.map(n => g.initializer('spread', floatTensor([n, n], spreadingMatrix(n))))
  const spread = (value: Value) =>
    emitKroneckerProduct(g, value, { left: left!, right: right! }, site.factors, staticShape(x).length)
  const errorOf = (value: Value) => g.sub(emitFakeQuantizeTokens(g, value, quantizer), value)
  // S is its own inverse.
  return [errorOf(x), spread(errorOf(spread(x)))].map(error =>
    weights
      .map(weight => g.op('ReduceSumSquare', [g.matMul(error, weight)], { keepdims: 0 }))
      .reduce((a, b) => g.add(a, b)),
  ) as [Value, Value]
}

/**
 * Sites of the plan for which S leaves less of the error.
 * @param version weights and constants as learning starts, without matrices. @param from inputs of the quantized model.
 */
export async function chooseMatrices(
  plan: BlockPlan,
  { feeds, changed }: BlockVersion,
  from: ActivationStore,
  session: SessionOptions,
): Promise<ReadonlySet<ActivationSite>> {
  const { block, activationSites } = plan
  const sites = affineSites(plan)
  const shape = staticShape(block.input)
  const g = new Builder(new Graph('matrices'))
  const input = g.input('x', 'float32', shape)
  const weights = weightInputs(g, block)
  const values = new Map<Value, Value>()
  emitBlock(g, block, input, weights, {
    changes: changed && changeInputs(g, changed),
    activationSites,
    quantized: false,
    siteConstants: changed && siteInputs(g, changed),
    values,
  })
  const name = (i: number, side: number): string => `error${i}_${side}`
  sites.forEach((site, i) => {
    const readers = readersOf(block.linears, site).map(linear => weights.get(linear)!)
    emitErrors(g, values.get(site.value)!, site, readers).forEach((error, side) => g.output(error, name(i, side)))
  })
  const program = await compile(g.graph, session)
  const sums = sites.map(() => [0, 0] as [number, number])
  try {
    for (let sample = 0; sample < Math.min(SAMPLES, from.samples); sample++) {
      const result = await program.run({ x: tensorOf('float32', shape, from.read(sample, 1)), ...feeds })
      for (const [i, sum] of sums.entries())
        for (const side of [0, 1] as const) sum[side] += (readElements(result[name(i, side)]!) as Float32Array)[0]!
    }
  } finally {
    await program.release()
  }
  return new Set(sites.filter((_, i) => sums[i]![1] < WORTH * sums[i]![0]))
}
