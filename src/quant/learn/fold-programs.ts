/** @file Fold programs of a block: learned parameters to codes, scales and zero points, one linear at a time. */

import { Builder } from '../../graph/builder.ts'
import { extract } from '../../graph/extract.ts'
import { Graph, type Value } from '../../graph/ir.ts'
import { type Shape, staticShape } from '../../graph/shape.ts'
import type { Linear } from '../find/linears.ts'
import type { BlockPlan, ChangedSite } from '../plan/block-plan.ts'
import { entriesOf, type SiteConstants } from '../plan/site-constants.ts'
import { emitQuantized } from './emit-quantized.ts'
import type { ParameterVector } from './parameters.ts'
import { biasName, type ChangedConstants, constantName, siteName, weightInputs } from './ports.ts'

/** Program that quantizes one linear of the block. */
export interface LinearFold {
  readonly linear: Linear
  readonly index: number
  readonly program: Graph
  /** Scales alone. Outputs: scales and zero points, float32 [groups, N]. */
  readonly scales: Graph
  /** Output: the weight before it is quantized, [K, N]. Undefined where learning does not change it. */
  readonly transformed: Graph | undefined
}

export interface FoldPrograms {
  readonly linears: readonly LinearFold[]
  readonly changed: ChangedConstants
  /** Values c{j} of the changed sites, b{j} of the biases, numbers of sites of activations; undefined for none of all. */
  readonly constants: Graph | undefined
}

const shapesOf = (values: SiteConstants<Value>): SiteConstants<Shape> =>
  Object.fromEntries(entriesOf(values).map(([role, value]) => [role, staticShape(value)]))

/**
 * Programs that turn what training ended with into numbers to store. Each needs memory for its own linear only: weights and, when
 * something was learned, parameters [size] -> per quantized linear i: codes{i} uint8 [K, N], scale{i} float32 [groups, N], zero_point{i}
 * uint8 [groups, N], and weight{i} float32 [K, N], the weight the stored numbers stand for.
 */
export function foldPrograms(plan: BlockPlan, vector: ParameterVector | undefined): FoldPrograms {
  const g = new Builder(new Graph('fold'))
  const weights = weightInputs(g, plan.block)
  const parameters = vector && vector.split(g, g.input('parameters', 'float32', [vector.size]))
  const { weights: floats, quantized, changes, siteConstants } = emitQuantized(g, plan, weights, parameters)
  /** The program of the outputs that `write` declares. */
  const part = (write: () => void): Graph => {
    g.graph.outputs = []
    write()
    return extract(g.graph, g.graph.inputs, g.graph.outputs)
  }
  const linears = plan.block.linears.flatMap((linear, index): LinearFold[] => {
    const fake = quantized.get(linear)
    if (!fake) return []
    const { codes, scale, zeroPoint, output } = fake
    const program = part(() => {
      g.output(g.cast(codes, 'uint8'), `codes${index}`)
      g.output(g.op('Identity', [scale]), `scale${index}`)
      g.output(g.cast(zeroPoint, 'uint8'), `zero_point${index}`)
      g.output(output, `weight${index}`)
    })
    const scales = part(() => {
      g.output(g.op('Identity', [scale]))
      g.output(g.op('Identity', [zeroPoint]))
    })
    const float = floats.get(linear)!
    const transformed = float === weights.get(linear) ? undefined : part(() => g.output(g.op('Identity', [float])))
    return [{ linear, index, program, scales, transformed }]
  })
  const valueAt = ({ site: { node, input } }: ChangedSite) => changes.constants.get(node)?.get(input)
  const changed: ChangedConstants = {
    sites: plan.changedSites.filter(valueAt),
    biases: plan.block.linears.filter(linear => changes.biases.has(linear)),
    activations: new Map([...siteConstants].map(([site, values]) => [site, shapesOf(values)])),
  }
  if (changed.sites.length + changed.biases.length + changed.activations.size === 0)
    return { linears, changed, constants: undefined }
  const constants = part(() => {
    changed.sites.forEach((site, j) => g.output(valueAt(site)!, constantName(j)))
    changed.biases.forEach((linear, j) => g.output(changes.biases.get(linear)!, biasName(j)))
    ;[...siteConstants.values()].forEach((values, j) => {
      for (const [role, value] of entriesOf(values)) g.output(g.op('Identity', [value]), siteName(j, role))
    })
  })
  return { linears, changed, constants }
}
