/** @file Finished blocks into the user's graph: quantized linears, transformed gains and biases, quantized queries, keys and values. */

import type { Model, Node } from '../../graph/ir.ts'
import { staticShape } from '../../graph/shape.ts'
import type { PackedWeight } from '../../kernels/pack/matmul-nbits.ts'
import type { FinishedBlock } from '../learn/finished-block.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import { isFused } from '../plan/fused-experts.ts'
import type { ExportOptions } from '../terms/options.ts'
import { exportLinears } from './export-linears.ts'
import { type ExportedExperts, exportExperts } from './qmoe.ts'
import { type QuantizedValue, quantizeValues } from './quantize-values.ts'
import { replaceConstants } from './replace-constants.ts'

/** What of a finished block goes into the file. */
export type ExportedBlock = Pick<FinishedBlock, 'plan' | 'packed' | 'constants' | 'biases'>

/** Writes the finished blocks into the user's graph. */
export function exportBlocks(model: Model, finished: readonly ExportedBlock[], options: ExportOptions): void {
  replaceConstants(
    model,
    finished.flatMap(({ plan, constants }) =>
      constants.map((data, j) => ({ ...plan.changedSites[j]!, data, twin: plan.twins?.sites[j] })),
    ),
  )
  quantizeValues(
    model,
    finished.flatMap(({ plan }) => quantizedValues(plan)),
  )
  const linears = finished.flatMap(({ plan, packed, biases }) =>
    plan.block.linears.flatMap((linear, j) => {
      const { node, origin, inFeatures, outFeatures } = linear
      const weight = packed[j]
      if (!weight || isFused(linear)) return []
      const bias = plan.addedBiases.findIndex(other => other.origin === origin)
      return [
        {
          ...{ origin, twins: plan.twins?.linears[j], packed: weight, inFeatures, outFeatures },
          ...(plan.activations && { activation: plan.activations.quantizer }),
          ...addedBias(bias, biases),
          rank: staticShape(node.inputs[0]!).length,
        },
      ]
    }),
  )
  exportLinears(model, linears, options)
  exportExperts(model, finished.flatMap(fusedExperts))
}

/** Fused nodes with the weights of all their experts, which are in the block's order: fc1 and fc2 of one expert after the other. */
function fusedExperts({ plan, packed }: ExportedBlock): ExportedExperts[] {
  const nodes = new Map<Node, PackedWeight[]>()
  plan.block.linears.forEach((linear, j) => {
    const weight = packed[j]
    if (weight && 'b' in weight && isFused(linear))
      nodes.set(linear.origin, [...(nodes.get(linear.origin) ?? []), weight])
  })
  return [...nodes].map(([origin, weights]) => ({
    origin,
    fc1: weights.filter((_, i) => i % 2 === 0),
    fc2: weights.filter((_, i) => i % 2 === 1),
  }))
}

/** Queries, keys and values: in merged files of both branches, and of what one of them hands on to the other. */
function quantizedValues({ activations, twins }: BlockPlan): QuantizedValue[] {
  const sites = (activations?.sites ?? []).filter(({ user }) => user !== undefined)
  return sites.flatMap(({ user, group, value }, j) => {
    const shape = staticShape(value)
    const how = { group, channels: shape.at(-1)!, rank: shape.length, quantizer: activations!.quantizer }
    if (!twins) return [{ ...how, value: user! }]
    return [user!, twins.values[j]!].map(each => ({ ...how, value: each, outputs: true }))
  })
}

const addedBias = (index: number, biases: readonly Float32Array[]): { addedBias?: Float32Array } =>
  biases[index] ? { addedBias: biases[index] } : {}
