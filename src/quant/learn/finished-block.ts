/** @file Result of the learn stage: a block as it will be stored. */

import type { PackedLinear } from '../../kernels/pack/layouts.ts'
import { qMax } from '../../kernels/qparams.ts'
import type { RangeSteps } from '../../kernels/static-range.ts'
import type { Linear } from '../find/linears.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import type { ActivationReport, BlockReport } from '../terms/report.ts'
import { type Learned, type NamedParameter, namedParameters } from './learned.ts'

export interface FinishedLinear {
  readonly linear: Linear
  /** Undefined: the linear stays float. */
  readonly packed: PackedLinear | undefined
  /** Learned bias that is added to the linear's result, [N]. */
  readonly bias?: Float32Array | undefined
}

/** New value of a constant that learning has changed. */
export interface FinishedConstant {
  /** Index in plan.changedSites. */
  readonly site: number
  /** As many numbers as the constant has. */
  readonly data: Float32Array
}

/** Constants of a site whose range is fixed. */
export interface FinishedRange extends RangeSteps {
  /** Index in plan.activationSites. */
  readonly site: number
}

/** Numbers of a block to store. */
export interface QuantizedBlock {
  /** All linears of the block, in order. */
  readonly linears: readonly FinishedLinear[]
  readonly constants: readonly FinishedConstant[]
  /** One for each site whose range is fixed. */
  readonly ranges: readonly FinishedRange[]
}

export interface FinishedBlock extends QuantizedBlock {
  readonly plan: BlockPlan
  /** Parameters that the block was quantized with; none, or only fixed ranges of activations, where it was rounded to nearest. */
  readonly learned: Learned | undefined
  readonly report: BlockReport
}

/** Results of learning that a report gives. */
export type Learning = Omit<BlockReport, 'index' | 'linears' | 'mappings' | 'activations' | 'elapsedMs'>

function activationReport({ activationSites }: BlockPlan, { site, scale, zeroPoint }: FinishedRange): ActivationReport {
  const { value, quantizer } = activationSites[site]!
  const { bits } = quantizer
  return { name: value.name, bits, min: 0 - zeroPoint * scale, max: (qMax(bits) - zeroPoint) * scale }
}

/** Puts a finished block together. @param started by performance.now(). */
export function finishBlock(
  plan: BlockPlan,
  { linears, constants, ranges }: QuantizedBlock,
  learned: Learned | undefined,
  learning: Learning,
  started: number,
): FinishedBlock {
  const report: BlockReport = {
    index: plan.block.index,
    linears: [...plan.quantizers.keys()].map(({ name }) => name),
    mappings: plan.mappings.map(({ name }) => name),
    ...(ranges.length > 0 && { activations: ranges.map(range => activationReport(plan, range)) }),
    ...learning,
    elapsedMs: Math.round(performance.now() - started),
  }
  return { plan, linears, constants, ranges, learned, report }
}

/** A finished block as a record of the work folder. It holds no plan: every run makes the same plan again. */
export interface StoredBlock extends Pick<FinishedBlock, 'constants' | 'ranges' | 'report'> {
  readonly linears: readonly Omit<FinishedLinear, 'linear'>[]
  readonly parameters: readonly NamedParameter[]
}

/** A finished block that was read from the work folder: its weights are ranges of a file there. */
export interface ReadBlock extends QuantizedBlock {
  readonly plan: BlockPlan
  /** Empty for a block that was rounded to nearest, but for fixed ranges of activations. */
  readonly parameters: readonly NamedParameter[]
  readonly report: BlockReport
}

export const storedBlock = ({ linears, constants, ranges, learned, report }: FinishedBlock): StoredBlock => ({
  linears: linears.map(({ packed, bias }) => ({ packed, bias })),
  constants,
  ranges,
  parameters: learned ? namedParameters(learned) : [],
  report,
})

export const readBlock = (plan: BlockPlan, stored: StoredBlock): ReadBlock => ({
  ...stored,
  plan,
  linears: stored.linears.map((numbers, i) => ({ ...numbers, linear: plan.block.linears[i]! })),
})
