/** @file Finished blocks into the user's graph: quantized linears, transformed gains and biases, quantized queries, keys and values. */

import type { Model } from '../../graph/ir.ts'
import { staticShape } from '../../graph/shape.ts'
import type { FinishedBlock } from '../block-job.ts'
import { type ExportOptions, exportLinears, quantizeValues, replaceConstants } from './linears.ts'

/** Writes the finished blocks into the user's graph. */
export function exportBlocks(model: Model, finished: readonly FinishedBlock[], options: ExportOptions): void {
  replaceConstants(
    model,
    finished.flatMap(({ plan, constants }) => constants.map((data, j) => ({ ...plan.changedSites[j]!, data }))),
  )
  quantizeValues(
    model,
    finished.flatMap(({ plan }) =>
      (plan.activations?.sites ?? []).flatMap(({ user, group, value }) =>
        user
          ? [
              {
                value: user,
                group,
                channels: staticShape(value).at(-1)!,
                rank: staticShape(value).length,
                quantizer: plan.activations!.quantizer,
              },
            ]
          : [],
      ),
    ),
  )
  const linears = finished.flatMap(({ plan, packed, biases }) =>
    plan.block.linears.map(({ origin, ...linear }, j) => ({
      ...{ origin, packed: packed[j]!, inFeatures: linear.inFeatures, outFeatures: linear.outFeatures },
      ...(plan.activations && { activation: plan.activations.quantizer }),
      ...addedBias(
        plan.addedBiases.findIndex(other => other.origin === origin),
        biases,
      ),
    })),
  )
  exportLinears(model, linears, options)
}

const addedBias = (index: number, biases: readonly Float32Array[]): { addedBias?: Float32Array } =>
  biases[index] ? { addedBias: biases[index] } : {}
