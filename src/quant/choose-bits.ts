/** @file Lets a run choose the bits of its weights: sensitivities, measured once or read from a file, and the mix that holds the limit. */

import type { Calibration } from '../calibration/calibrate.ts'
import { QuantError, usageError } from '../errors.ts'
import type { WorkFolder } from '../files/work-folder.ts'
import { option } from '../option-mark.ts'
import { type CandidateLinear, candidatesOf } from './choose/candidates.ts'
import { chooseMix, type Mix, overridesOf } from './choose/choose-mix.ts'
import { measureSensitivities } from './choose/measure-sensitivities.ts'
import { fitted, readSensitivities, writeSensitivities } from './choose/sensitivity-file.ts'
import { shareLeftBy } from './choose/share-left.ts'
import type { Analysis } from './find/analysis.ts'
import { outerGrowth, quantizedSize } from './output-size.ts'
import type { EmbeddingPlan } from './plan/plan-embeddings.ts'
import type { Choosing, Run } from './terms/options.ts'
import { GROUP_SIZES, type PatternOverride, weightOverrideName } from './terms/scheme.ts'
import type { ChoiceReport, Sensitivities } from './terms/sensitivity.ts'

const RECORD = 'sensitivities'

/** Bytes of the nodes, names and gaps that come with a quantized weight, besides those of its name (docs/choose-bits.md). */
const NODE_BYTES = 256

/** Times that the name of a weight may be written with its node. */
const NAMES = 8

/** Gaps before the three arrays of a large weight, which begin on a page. */
const GAP_BYTES = 3 * 4096

const LARGE_BYTES = 2 ** 20

/** Run that chooses bits. */
export type ChoosingRun = Run & { readonly choosing: Choosing }

export const choosesBits = (run: Run): run is ChoosingRun => run.choosing !== undefined

/** Bits that were chosen. */
export interface ChosenBits {
  /** One for each weight, by its name. */
  readonly overrides: readonly PatternOverride[]
  readonly report: ChoiceReport
}

/** Most bytes that a weight adds to the file besides its arrays. */
const overheadOf = ({ linear: { name, inFeatures, outFeatures } }: CandidateLinear): number =>
  NODE_BYTES + NAMES * Buffer.byteLength(name) + (inFeatures * outFeatures >= LARGE_BYTES ? GAP_BYTES : 0)

/** Bytes of the output besides the quantized weights of the blocks: an upper bound. @param size bytes of the model. */
function fixedBytes(
  linears: readonly CandidateLinear[],
  { blocks }: Analysis,
  { scheme, format }: Run,
  outer: EmbeddingPlan,
  size: number,
): number {
  const chosen = new Set<unknown>(linears.map(({ linear }) => linear))
  const all = blocks.flatMap(block => block.linears)
  const schemeOf = (linear: unknown) => (chosen.has(linear) ? scheme.weights : undefined)
  const { replaced } = quantizedSize(all, scheme, schemeOf, format)
  const overhead = linears.reduce((sum, each) => sum + overheadOf(each), 0)
  return size - replaced + outerGrowth(outer, { format }) + overhead
}

/** The mix as exceptions that a user can type. One scale per output has no group, or the narrowest that holds all inputs. */
const overrideTexts = (overrides: readonly PatternOverride[]): Record<string, string> =>
  Object.fromEntries(
    overrides.map(({ pattern, bits, group = 0, symmetric }) => {
      const typed = GROUP_SIZES.includes(group) ? group : GROUP_SIZES.find(size => size >= group)
      return [pattern, weightOverrideName({ bits, symmetric, ...(typed !== undefined && { group: typed }) })]
    }),
  )

/**
 * Sensitivities of the run: those it began with, those of a file, or measured ones. Measured ones are written where a file was asked for.
 * @throws E_PARAMETERS, E_OUTPUT for that file; E_RESUME when it changed since the run began.
 */
async function sensitivitiesOf(
  options: ChoosingRun,
  analysis: Analysis,
  linears: readonly CandidateLinear[],
  calibration: Calibration,
  work: WorkFolder,
): Promise<Sensitivities> {
  const { sensitivity: path } = options.choosing
  const file = path === undefined ? undefined : readSensitivities(path)
  const given = file && fitted(path!, file, linears)
  if (!work.has(RECORD)) work.write(RECORD, given ?? (await measureSensitivities(options, analysis, calibration, work)))
  const kept = work.read(RECORD) as Sensitivities
  if (given && JSON.stringify(given) !== JSON.stringify(kept))
    throw new QuantError(
      'E_RESUME',
      `${path} holds other sensitivities than those the unfinished run for this output began with`,
      `Leave out ${option('sensitivity')} to go on, or give ${option('fresh', true)} to start over.`,
    )
  if (path !== undefined && !file) writeSensitivities(path, kept)
  return kept
}

/**
 * Chooses the bits of all weights. A resumed run chooses from the sensitivities it began with.
 * @param size bytes of the model. @param calibrationOf gives the samples that the run learns from.
 * @throws E_LIMIT when no mix holds the limit; what measuring throws.
 */
export async function chooseBits(
  options: ChoosingRun,
  analysis: Analysis,
  outer: EmbeddingPlan,
  size: number,
  calibrationOf: () => Promise<Calibration>,
  work: WorkFolder,
): Promise<ChosenBits> {
  const { choosing, samples } = options
  const { maxSize, maxKl } = choosing
  if (samples < 2)
    throw usageError(
      `a run that chooses bits needs 2 ${option('samples')} or more`,
      'One is kept aside, to measure the output on.',
      'samples',
    )
  const linears = analysis.blocks.flatMap(block => candidatesOf(block, options, choosing, analysis))
  const fixed = fixedBytes(linears, analysis, options, outer, size)
  // A size that no mix has is refused before anything is measured.
  if (maxSize !== undefined) chooseMix(linears, unmeasured(linears), choosing, fixed, () => 0)
  const sensitivities = await sensitivitiesOf(options, analysis, linears, await calibrationOf(), work)
  const mix: Mix = chooseMix(linears, sensitivities, choosing, fixed, shareLeftBy(options))
  const overrides = overridesOf(linears, mix)
  return {
    overrides,
    report: {
      ...(maxSize === undefined ? { maxKl } : { maxSize }),
      plannedBytes: Math.ceil(fixed + mix.weightBytes),
      predictedKl: mix.predictedKl,
      chosen: mix.chosen.map((candidate, i) => sensitivities.linears[i]!.candidates.indexOf(candidate)),
      overrides: overrideTexts(overrides),
      sensitivities,
    },
  }
}

/** A table with sizes alone. */
const unmeasured = (linears: readonly CandidateLinear[]): Pick<Sensitivities, 'linears'> => ({
  linears: linears.map(({ linear: { name, inFeatures, outFeatures }, candidates }) => ({
    name,
    inFeatures,
    outFeatures,
    candidates: candidates.map(({ quantizer: { bits, group, symmetric }, sizeBytes }) => ({
      ...{ bits, group, symmetric, sizeBytes },
      error: 0,
      kl: 0,
    })),
  })),
})
