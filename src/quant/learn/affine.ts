/**
 * @file Learnable affine transformation (FlatQuant, arXiv 2410.09426): what a linear reads is multiplied by an invertible matrix before it
 * is quantized, and its weight by the inverse. P = P1 (x) P2, two small matrices; P_i = S exp(A_i), where S is orthonormal and A_i is
 * learned, so that P_i^-1 = exp(-A_i) S.
 */

import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/ir.ts'
import { staticShape } from '../../graph/shape.ts'
import { floatTensor } from '../../graph/tensor.ts'
import { emitKroneckerWeight } from '../../kernels/kronecker.ts'
import { emitExponentials } from '../../kernels/matrix-exponential.ts'
import { identityMatrix, spreadingMatrix } from '../../kernels/orthonormal.ts'
import { type ActivationSite } from '../plan/activation-sites.ts'
import { affineSites, readersOf } from '../plan/affine-sites.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import type { SiteConstants } from '../plan/site-constants.ts'
import type { BlockConstants, Learnable, LearningStart } from './learnable.ts'
import type { Parameter } from './parameters.ts'

const SIDES = ['left', 'right'] as const

const matrixName = ({ value }: ActivationSite, index: number, side: 'left' | 'right'): string =>
  `${index}:${value.name}:${side}`

/** The elements of A_1 and A_2 of every site, zero at the start. Sites that only frozen linears read stay at S. */
function parameters(plan: BlockPlan, { method, frozen }: LearningStart): Parameter[] {
  return affineSites(plan).flatMap((site, i) => {
    const isFrozen = readersOf(plan.block.linears, site).every(linear => frozen.has(linear))
    return SIDES.map((side, j) => ({
      name: matrixName(site, i, side),
      shape: [site.factors[j]!, site.factors[j]!],
      initial: 0,
      learningRate: isFrozen ? 0 : method.letLearningRate,
    }))
  })
}

/** A matrix and its inverse, [n, n]. */
interface Pair {
  readonly matrix: Value
  readonly inverse: Value
}

/**
 * S exp(A) and exp(-A) S^-1 for the A of each name, [n, n]; those of one size are computed together. S is rounded to float32: one step of
 * Newton's method, S (2 I - S S), makes its inverse exact.
 */
function emitPairs(g: Builder, generators: ReadonlyMap<string, Value>): Map<string, Pair> {
  const pairs = new Map<string, Pair>()
  const sizeOf = (value: Value) => staticShape(value)[0]!
  for (const n of new Set([...generators.values()].map(sizeOf))) {
    const names = [...generators].flatMap(([name, value]) => (sizeOf(value) === n ? [name] : []))
    const stacked = g.concat(
      names.map(name => g.reshape(generators.get(name)!, [1, n, n])),
      0,
    )
    const { exponential, inverse } = emitExponentials(g, stacked)
    const constant = (name: string, values: Iterable<number>) =>
      g.typed(g.initializer(name, floatTensor([n, n], values)), stacked.dtype!)
    const start = constant('spread', spreadingMatrix(n))
    const twice = constant(
      'twice',
      identityMatrix(n).map(x => 2 * x),
    )
    const back = g.matMul(start, g.sub(twice, g.matMul(start, start)))
    const each = (all: Value) =>
      g
        .split(
          all,
          names.map(() => 1),
          0,
        )
        .map(value => g.reshape(value, [n, n]))
    const [matrices, inverses] = [each(g.matMul(start, exponential)), each(g.matMul(inverse, back))]
    names.forEach((name, k) => pairs.set(name, { matrix: matrices[k]!, inverse: inverses[k]! }))
  }
  return pairs
}

/** Multiplies the weights of the linears by the inverses, and gives the sites their matrices. */
function apply(
  g: Builder,
  plan: BlockPlan,
  constants: BlockConstants,
  values: ReadonlyMap<string, Value>,
): BlockConstants {
  const sites = affineSites(plan)
  const names = sites.map((site, i) => SIDES.map(side => matrixName(site, i, side)))
  const generators = new Map(
    names.flat().flatMap(name => (values.has(name) ? [[name, values.get(name)!] as const] : [])),
  )
  if (generators.size === 0) return constants
  const pairs = emitPairs(g, generators)
  const weights = new Map(constants.weights)
  const siteConstants = new Map<ActivationSite, SiteConstants<Value>>(constants.siteConstants)
  sites.forEach((site, i) => {
    const [left, right] = names[i]!.map(name => pairs.get(name)!) as [Pair, Pair]
    siteConstants.set(site, { ...siteConstants.get(site), left: g.transpose(left.matrix, [1, 0]), right: right.matrix })
    const inverse = { left: left.inverse, right: right.inverse }
    for (const linear of readersOf(plan.block.linears, site))
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
