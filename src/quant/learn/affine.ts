/**
 * @file Learnable affine transformation (FlatQuant, arXiv 2410.09426): what a linear reads is multiplied by an invertible matrix before it
 * is quantized, and its weight by the inverse. P = P1 (x) P2, two small matrices; P_i = S exp(A_i), where S is orthonormal and A_i is
 * learned, so that P_i^-1 = exp(-A_i) S.
 */

import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/ir.ts'
import { floatTensor } from '../../graph/tensor.ts'
import { emitKroneckerWeight, type Factors } from '../../kernels/kronecker.ts'
import { emitExponentials } from '../../kernels/matrix-exponential.ts'
import { spreadingMatrix } from '../../kernels/orthonormal.ts'
import type { Linear } from '../find/linears.ts'
import type { ActivationSite } from '../plan/activation-sites.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import type { SiteConstants } from '../plan/site-constants.ts'
import type { BlockConstants, Learnable, LearningStart } from './learnable.ts'
import type { Parameter } from './parameters.ts'

const RATE = Number(process.env.OQ_RATE ?? 5e-3)

/** Site with a matrix. */
interface AffineSite extends ActivationSite {
  readonly factors: Factors
}

const affineSites = ({ activationSites }: Pick<BlockPlan, 'activationSites'>): AffineSite[] =>
  activationSites.filter((site): site is AffineSite => site.factors !== undefined)

const SIDES = ['left', 'right'] as const

const matrixName = ({ value }: ActivationSite, index: number, side: 'left' | 'right'): string =>
  `${index}:${value.name}:${side}`

function readersOf({ block }: BlockPlan, site: ActivationSite): Linear[] {
  const nodes = new Set(site.readers.map(({ node }) => node))
  return block.linears.filter(({ node }) => nodes.has(node))
}

function parameters(plan: BlockPlan, { method, frozen }: LearningStart): Parameter[] {
  return affineSites(plan).flatMap((site, i) => {
    const isFrozen = readersOf(plan, site).every(linear => frozen.has(linear))
    return SIDES.map((side, j) => ({
      name: matrixName(site, i, side),
      shape: [site.factors[j]!, site.factors[j]!],
      initial: 0,
      learningRate: isFrozen ? 0 : RATE * (method.learningRate / 5e-2),
    }))
  })
}

/** A matrix and its inverse, [n, n]. */
interface Pair {
  readonly matrix: Value
  readonly inverse: Value
}

/** S exp(A) and exp(-A) S for each A; those of one size are computed together. */
function emitPairs(g: Builder, generators: ReadonlyMap<string, Value>, sizes: ReadonlyMap<string, number>): Map<string, Pair> {
  const pairs = new Map<string, Pair>()
  for (const n of new Set(sizes.values())) {
    const names = [...generators.keys()].filter(name => sizes.get(name) === n)
    const stacked = g.concat(
      names.map(name => g.reshape(generators.get(name)!, [1, n, n])),
      0,
    )
    const { exponential, inverse } = emitExponentials(g, stacked)
    const start = g.typed(g.initializer('spread', floatTensor([n, n], process.env.OQ_P0 === 'i' ? Float64Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0)) : spreadingMatrix(n))), stacked.dtype!)
    const of = (all: Value) => g.split(all, names.map(() => 1), 0).map(value => g.reshape(value, [n, n]))
    const [matrices, inverses] = [of(g.matMul(start, exponential)), of(g.matMul(inverse, start))]
    names.forEach((name, i) => pairs.set(name, { matrix: matrices[i]!, inverse: inverses[i]! }))
  }
  return pairs
}

function apply(g: Builder, plan: BlockPlan, constants: BlockConstants, values: ReadonlyMap<string, Value>): BlockConstants {
  const generators = new Map<string, Value>()
  const sizes = new Map<string, number>()
  const sites = affineSites(plan)
  sites.forEach((site, i) =>
    SIDES.forEach((side, j) => {
      const name = matrixName(site, i, side)
      const value = values.get(name)
      if (!value) return
      generators.set(name, value)
      sizes.set(name, site.factors[j]!)
    }),
  )
  if (generators.size === 0) return constants
  const pairs = emitPairs(g, generators, sizes)
  const weights = new Map(constants.weights)
  const siteConstants = new Map<ActivationSite, SiteConstants<Value>>(constants.siteConstants)
  sites.forEach((site, i) => {
    const [left, right] = SIDES.map(side => pairs.get(matrixName(site, i, side))) as [Pair, Pair]
    siteConstants.set(site, { ...siteConstants.get(site), left: g.transpose(left.matrix, [1, 0]), right: right.matrix })
    for (const linear of readersOf(plan, site))
      weights.set(
        linear,
        emitKroneckerWeight(g, weights.get(linear)!, { left: left.inverse, right: right.inverse }, site.factors),
      )
  })
  return { ...constants, weights, siteConstants }
}

export const affine: Learnable = { name: 'affine', enabled: ({ let: given }) => given === 'affine', parameters, apply }
