/**
 * @file Learnable affine transformation (FlatQuant, arXiv 2410.09426): what a linear reads is multiplied by an invertible matrix before it
 * is quantized, and its weight by the inverse. P = P1 (x) P2, two small matrices; P_i = S exp(A_i), where S is orthonormal and A_i is
 * learned, so that P_i^-1 = exp(-A_i) S. Values that S does not help (choose-matrices.ts) keep the identity.
 */

import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/ir.ts'
import { staticShape } from '../../graph/shape.ts'
import { floatTensor } from '../../graph/tensor.ts'
import { emitKroneckerWeight } from '../../kernels/kronecker.ts'
import { emitExponentials } from '../../kernels/matrix-exponential.ts'
import { identityMatrix, spreadingMatrix } from '../../kernels/orthonormal.ts'
import { type ActivationSite } from '../plan/activation-sites.ts'
import { affineSites, linearsReading } from '../plan/affine-sites.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import type { SiteConstants } from '../plan/site-constants.ts'
import type { Learnable, LearningStart } from './learnable.ts'
import type { Parameter } from './parameters.ts'

const SIDES = ['left', 'right'] as const

const matrixName = ({ value }: ActivationSite, index: number, side: 'left' | 'right'): string =>
  `${index}:${value.name}:${side}`

const spreadName = ({ value }: ActivationSite, index: number): string => `${index}:${value.name}:spread`

/**
 * The elements of A_1 and A_2 of every site, zero at the start, and `spread` [], which is not learned: 1 where P starts at S, 0 where it
 * stays the identity. Sites that only frozen linears read stay so too.
 */
function parameters(plan: BlockPlan, { method, frozen, matrices }: LearningStart): Parameter[] {
  return affineSites(plan).flatMap((site, i): Parameter[] => {
    const readers = linearsReading(plan.block.linears, site)
    const isLearned = matrices?.has(site) === true && !readers.every(linear => frozen.has(linear))
    const generators = SIDES.map((side, j) => ({
      name: matrixName(site, i, side),
      shape: [site.factors[j]!, site.factors[j]!],
      initial: 0,
      learningRate: isLearned ? method.letLearningRate : 0,
    }))
    return [...generators, { name: spreadName(site, i), shape: [], initial: isLearned ? 1 : 0, learningRate: 0 }]
  })
}

/** A matrix and its inverse, [n, n]. */
interface Pair {
  readonly matrix: Value
  readonly inverse: Value
}

/** Learned numbers of one matrix: A [n, n], and 1 or 0 for S or the identity to start from, []. */
interface Generator {
  readonly a: Value
  readonly spread: Value
}

/**
 * S exp(A) and exp(-A) S^-1 for each name, [n, n]; those of one size are computed together. S is rounded to float32: one step of
 * Newton's method, S (2 I - S S), makes its inverse exact.
 */
function emitPairs(g: Builder, generators: ReadonlyMap<string, Generator>): Map<string, Pair> {
  const pairs = new Map<string, Pair>()
  const sizeOf = ({ a }: Generator) => staticShape(a)[0]!
  for (const n of new Set([...generators.values()].map(sizeOf))) {
    const ofSize = [...generators].filter(([, generator]) => sizeOf(generator) === n)
    const stacked = (values: readonly Value[], shape: readonly number[]) =>
      g.concat(
        values.map(value => g.reshape(value, shape)),
        0,
      )
    const a = stacked(
      ofSize.map(([, generator]) => generator.a),
      [1, n, n],
    )
    const spread = stacked(
      ofSize.map(([, generator]) => generator.spread),
      [1, 1, 1],
    )
    const constant = (name: string, values: Iterable<number>) =>
      g.typed(g.initializer(name, floatTensor([n, n], values)), a.dtype!)
    const one = constant('identity', identityMatrix(n))
    const s = constant('spread', spreadingMatrix(n))
    const inverseOfS = g.matMul(s, g.sub(g.scale(one, 2), g.matMul(s, s)))
    /** Exactly the matrix where spread is 1, and the identity where it is 0. */
    const chosen = (matrix: Value) => g.add(g.mul(spread, matrix), g.mul(g.shift(g.neg(spread), 1), one))
    const { exponential, inverse } = emitExponentials(g, a)
    const each = (all: Value) => {
      const sizes = ofSize.map(() => 1)
      return g.split(all, sizes, 0).map(value => g.reshape(value, [n, n]))
    }
    const matrices = each(g.matMul(chosen(s), exponential))
    const inverses = each(g.matMul(inverse, chosen(inverseOfS)))
    ofSize.forEach(([name], k) => pairs.set(name, { matrix: matrices[k]!, inverse: inverses[k]! }))
  }
  return pairs
}

/** Multiplies the weights of the linears by the inverses, and gives the sites their matrices. */
const apply: Learnable['apply'] = (g, plan, constants, values) => {
  const sites = affineSites(plan)
  const names = sites.map((site, i) => SIDES.map(side => matrixName(site, i, side)))
  const generators = new Map<string, Generator>()
  sites.forEach((site, i) => {
    const spread = values.get(spreadName(site, i))
    for (const name of names[i]!) {
      const a = values.get(name)
      if (a && spread) generators.set(name, { a, spread })
    }
  })
  if (generators.size === 0) return constants
  const pairs = emitPairs(g, generators)
  const weights = new Map(constants.weights)
  const siteConstants = new Map<ActivationSite, SiteConstants<Value>>(constants.siteConstants)
  sites.forEach((site, i) => {
    const [left, right] = names[i]!.map(name => pairs.get(name)!) as [Pair, Pair]
    siteConstants.set(site, { ...siteConstants.get(site), left: g.transpose(left.matrix, [1, 0]), right: right.matrix })
    const inverse = { left: left.inverse, right: right.inverse }
    for (const linear of linearsReading(plan.block.linears, site))
      weights.set(linear, emitKroneckerWeight(g, weights.get(linear)!, inverse, site.factors))
  })
  return { ...constants, weights, siteConstants }
}

export const affine: Learnable = {
  name: 'affine',
  enabled: ({ let: transformations }) => transformations === 'affine',
  parameters,
  apply,
}
