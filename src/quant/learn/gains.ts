/**
 * @file Learnable gains: a factor for every element of the gains and biases of norms that linears read. Unlike a transformation it changes
 * what the float block computes, and makes up for a part of what rounding does to the linears behind (norm tweaking, arXiv 2309.02784).
 */

import type { Value } from '../../graph/ir.ts'
import { elementCount, readBytes } from '../../graph/tensor.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import type { Site } from '../plan/site.ts'
import type { Learnable, LearningStart } from './learnable.ts'
import type { Parameter } from './parameters.ts'

/** Share of the clipping's learning rate. docs/accuracy.md has the measurements. */
const RATE_SHARE = 0.02

const constantAt = ({ node, input }: Site): Value => node.inputs[input]!

const parameterName = (site: Site, index: number): string => `${index}:${constantAt(site).name}:gain`

/** Changes of the factors, one for each element of each gain: they start at 0. */
function parameters({ gains }: BlockPlan, { method, frozen }: LearningStart): Parameter[] {
  return gains.map(({ site, readers }, i) => ({
    name: parameterName(site, i),
    shape: [elementCount(constantAt(site).tensor!.dims)],
    initial: 0,
    learningRate: readers.every(linear => frozen.has(linear)) ? 0 : method.learningRate * RATE_SHARE,
  }))
}

/** gain * (1 + change), of the gain that transformations left. */
const apply: Learnable['apply'] = (g, { gains }, before, values) => {
  const constants = new Map([...before.constants].map(([node, inputs]) => [node, new Map(inputs)]))
  gains.forEach(({ site }, i) => {
    const change = values.get(parameterName(site, i))
    if (!change) return
    const { node, input } = site
    const { name, tensor } = constantAt(site)
    const { dims } = tensor!
    const gain =
      constants.get(node)?.get(input) ?? g.initializer(name, { dtype: 'float32', dims, data: readBytes(tensor!) })
    const factor = g.reshape(g.add(change, g.scalar(1)), dims)
    constants.set(node, new Map(constants.get(node)).set(input, g.mul(gain, factor)))
  })
  return { ...before, constants }
}

export const gains: Learnable = {
  name: 'gains',
  enabled: method => method.learnGains,
  parameters,
  apply,
}
