/** @file Fold programs of a block: learned parameters to codes, scales and zero points, one linear at a time. */

import { Builder } from '../../graph/builder.ts'
import { extract } from '../../graph/extract.ts'
import { Graph } from '../../graph/ir.ts'
import type { EmittedRange } from '../../kernels/weights.ts'
import type { Linear } from '../find/linears.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import { emitRanges } from './clipping.ts'
import { emitQuantized } from './emit-quantized.ts'
import type { ParameterVector } from './parameters.ts'
import { biasName, constantName, weightInputs } from './ports.ts'

/** A linear as it is stored, and what of a program is needed for it. */
export interface LinearFold {
  readonly linear: Linear
  readonly index: number
  readonly program: Graph
}

export interface FoldPrograms {
  readonly linears: readonly LinearFold[]
  /** The changed constants c{j} and biases b{j}, where anything was learned. */
  readonly constants: Graph | undefined
}

/**
 * What training ended with, as numbers to store, in programs that need no more memory than their own linear: weights and, when something
 * was learned, parameters [size] -> per quantized linear i: codes{i} uint8 [K, N], scale{i} float32 [groups, N], zero_point{i} uint8
 * [groups, N], and weight{i} float32 [K, N], the weight the stored numbers stand for.
 */
export function foldPrograms(plan: BlockPlan, vector: ParameterVector | undefined): FoldPrograms {
  const g = new Builder(new Graph('fold'))
  const weights = weightInputs(g, plan.block)
  const parameters = vector && vector.split(g, g.input('parameters', 'float32', [vector.size]))
  // Rounding alone transforms nothing: then every range is that of the stored weight.
  const ranges = parameters ? emitRanges(g, plan, weights) : new Map<Linear, EmittedRange>()
  const { quantized, changes } = emitQuantized(g, plan, weights, ranges, parameters)
  /** The program of what `write` puts out. */
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
    return [{ linear, index, program }]
  })
  if (!changes || plan.changedSites.length + plan.addedBiases.length === 0) return { linears, constants: undefined }
  const constants = part(() => {
    plan.changedSites.forEach(({ site: { node, input } }, j) =>
      g.output(changes.constants.get(node)!.get(input)!, constantName(j)),
    )
    plan.addedBiases.forEach((linear, j) => g.output(changes.biases.get(linear)!, biasName(j)))
  })
  return { linears, constants }
}
