/**
 * @file Choice of the sites that a matrix helps: the error that quantizing the activation leaves in the linears' outputs, as it is and
 * multiplied by the matrix S that learning starts from (affine.ts), on a few calibration samples.
 */

import type { ActivationStore } from '../../calibration/activation-store.ts'
import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/ir.ts'
import { staticShape } from '../../graph/shape.ts'
import { floatTensor } from '../../graph/tensor.ts'
import { emitKroneckerProduct } from '../../kernels/kronecker.ts'
import { spreadingMatrix } from '../../kernels/orthonormal.ts'
import type { SessionOptions } from '../../kernels/session.ts'
import { emitFakeQuantizeTokens } from '../../kernels/tokens.ts'
import type { Block } from '../find/blocks.ts'
import type { ActivationSite } from '../plan/activation-sites.ts'
import { type AffineSite, affineSites, linearsReading } from '../plan/affine-sites.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import type { BlockVersion } from './block-version.ts'
import type { Observer } from './observer.ts'
import { runBlock } from './run-block.ts'

/** Samples that are looked at. */
const SAMPLES = 4

/** A matrix is worth its products where it leaves less than this part of the error (docs/accuracy.md). */
const WORTH = 0.8

/** Bits a token is quantized to here at most: 16 bits leave no error to speak of. */
const MOST_BITS = 8

/** Sum of squares of the error in the outputs of a site's readers, [2]: for x as it is and for x S. */
function emitErrors(g: Builder, x: Value, site: AffineSite, weights: readonly Value[]): Value {
  const { bits } = site.quantizer
  const quantizer = {
    bits: Math.min(bits, MOST_BITS),
    symmetric: 'symmetric' in site.quantizer && site.quantizer.symmetric,
  }
  const [left, right] = site.factors.map(n => g.initializer('spread', floatTensor([n, n], spreadingMatrix(n))))
  const spread = (value: Value) =>
    emitKroneckerProduct(g, value, { left: left!, right: right! }, site.factors, staticShape(x).length)
  const errorOf = (value: Value) => g.sub(emitFakeQuantizeTokens(g, value, quantizer), value)
  const sumOfSquares = (error: Value) =>
    weights
      .map(weight => g.op('ReduceSumSquare', [g.matMul(error, weight)], { keepdims: 0 }))
      .reduce((a, b) => g.add(a, b))
  // S is its own inverse.
  const errors = [errorOf(x), spread(errorOf(spread(x)))]
  return g.concat(
    errors.map(error => g.reshape(sumOfSquares(error), [1])),
    0,
  )
}

/** Errors of the sites of a block that can have a matrix, over some samples. */
export class MatrixErrors {
  private readonly block: Block
  private readonly errors: ReadonlyMap<AffineSite, [number, number]>

  constructor(plan: BlockPlan) {
    this.block = plan.block
    this.errors = new Map(affineSites(plan).map(site => [site, [0, 0]]))
  }

  /** Observers of a forward run without matrices, which fill in the errors. */
  get observers(): Observer[] {
    return [...this.errors].map(([site, errors]) => ({
      shape: [2],
      over: 'sum',
      emit: (g, { value, weight }) =>
        emitErrors(g, value(site.value), site, linearsReading(this.block.linears, site).map(weight)),
      take: ([plain, spread]) => void ([errors[0], errors[1]] = [plain!, spread!]),
    }))
  }

  /** Sites for which S leaves less of the error. */
  get chosen(): ReadonlySet<ActivationSite> {
    return new Set([...this.errors].flatMap(([site, [plain, spread]]) => (spread < WORTH * plain ? [site] : [])))
  }
}

/**
 * Sites of the plan for which S leaves less of the error.
 * @param version weights and constants as learning starts, without matrices. @param from inputs of the quantized model.
 */
export async function chooseMatrices(
  plan: BlockPlan,
  version: BlockVersion,
  from: ActivationStore,
  session: SessionOptions,
  onProgress?: (done: number, total: number) => void,
): Promise<ReadonlySet<ActivationSite>> {
  const errors = new MatrixErrors(plan)
  const run = { from, samples: Math.min(SAMPLES, from.samples), observers: errors.observers }
  await runBlock(plan, { ...version, quantized: false }, run, session, onProgress)
  return errors.chosen
}
