/** @file Result of the learn stage: a block as it will be stored. */

import { peakMemory } from '../../process/peak-memory.ts'
import type { PackedLinear } from '../../kernels/pack/layouts.ts'
import { qMax } from '../../kernels/qparams.ts'
import type { Linear } from '../find/linears.ts'
import { nameOf } from '../plan/affine-sites.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import { hasMatrix, type SiteConstants } from '../plan/site-constants.ts'
import type { ActivationReport, BlockReport } from '../terms/report.ts'
import { type Learned, type NamedParameter, namedParameters } from './learned.ts'
import { learnedFigures, type LinearErrors } from './learned-figures.ts'

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

/** Numbers of a site of activations. */
export interface FinishedActivation {
  /** Index in plan.activationSites. */
  readonly site: number
  readonly constants: SiteConstants<Float32Array>
}

/** Numbers of a block to store. */
export interface QuantizedBlock {
  /** All linears of the block, in order. */
  readonly linears: readonly FinishedLinear[]
  readonly constants: readonly FinishedConstant[]
  /** One for each site that has learned numbers or a fixed range. */
  readonly activations: readonly FinishedActivation[]
}

export interface FinishedBlock extends QuantizedBlock {
  readonly plan: BlockPlan
  /** Parameters that the block was quantized with; none, or only fixed ranges of activations, where it was rounded to nearest. */
  readonly learned: Learned | undefined
  readonly report: BlockReport
}

/** Results of learning that a report gives. */
export interface Learning extends Pick<
  BlockReport,
  'roundedLoss' | 'learnedLoss' | 'kept' | 'losses' | 'rollbacks' | 'fewTokens'
> {
  /** Errors of the linears' outputs; absent where the block was not run. */
  readonly errors?: LinearErrors
}

/** The fixed range of a site, if it has one. */
function activationReports(
  { activationSites }: BlockPlan,
  { site, constants }: FinishedActivation,
): ActivationReport[] {
  const { value, quantizer } = activationSites[site]!
  const { bits } = quantizer
  const [scale, zeroPoint] = [constants.scale?.[0], constants.zeroPoint?.[0]]
  if (scale === undefined || zeroPoint === undefined) return []
  return [{ name: value.name, bits, min: 0 - zeroPoint * scale, max: (qMax(bits) - zeroPoint) * scale }]
}

/** Puts a finished block together. @param started by performance.now(). */
export function finishBlock(
  plan: BlockPlan,
  { linears, constants, activations }: QuantizedBlock,
  learned: Learned | undefined,
  { errors, ...learning }: Learning,
  started: number,
): FinishedBlock {
  const transformed = activations.filter(activation => hasMatrix(activation.constants))
  const reported = activations.flatMap(activation => activationReports(plan, activation))
  const report: BlockReport = {
    index: plan.block.index,
    linears: [...plan.quantizers.keys()].map(({ name }) => name),
    mappings: [
      ...plan.mappings.map(({ name }) => name),
      ...transformed.map(({ site }) => nameOf(plan.activationSites[site]!, plan.block.linears)),
    ],
    ...(reported.length > 0 && { activations: reported }),
    ...learning,
    ...learnedFigures(plan, learned, errors),
    peakMemoryBytes: peakMemory(),
    elapsedMs: Math.round(performance.now() - started),
  }
  return { plan, linears, constants, activations, learned, report }
}

/** A finished block as a record of the work folder. It holds no plan: every run makes the same plan again. */
export interface StoredBlock extends Pick<FinishedBlock, 'constants' | 'activations' | 'report'> {
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

export const storedBlock = ({ linears, constants, activations, learned, report }: FinishedBlock): StoredBlock => ({
  linears: linears.map(({ packed, bias }) => ({ packed, bias })),
  constants,
  activations,
  parameters: learned ? namedParameters(learned) : [],
  report,
})

export const readBlock = (plan: BlockPlan, stored: StoredBlock): ReadBlock => ({
  ...stored,
  plan,
  linears: stored.linears.map((numbers, i) => ({ ...numbers, linear: plan.block.linears[i]! })),
})
