/** @file Measures the sensitivities of a model: one float forward pass, and one more behind each weight that is rounded alone. */

import type { Calibration } from '../../calibration/calibrate.ts'
import { runsFor } from '../../decoder/feeds.ts'
import { checkDiskSpace } from '../../files/disk-space.ts'
import type { WorkFolder } from '../../files/work-folder.ts'
import { byteLength } from '../../graph/dtype.ts'
import { staticShape } from '../../graph/shape.ts'
import { elementCount } from '../../graph/tensor.ts'
import type { Analysis } from '../find/analysis.ts'
import { embed } from '../learn/embed.ts'
import { floatVersion, readWeights } from '../learn/block-version.ts'
import { weightInput } from '../learn/ports.ts'
import { blockPlanner } from '../plan/block-planner.ts'
import type { Choosing, Run } from '../terms/options.ts'
import { type LinearSensitivity, SENSITIVITY_FORMAT, type Sensitivities } from '../terms/sensitivity.ts'
import { candidateErrors, type LinearErrors } from './candidate-errors.ts'
import { candidatesOf } from './candidates.ts'
import { logitsDivergence } from './float-logits.ts'
import { SingleChanges } from './single-changes.ts'

/** Tokens to measure on. More change the order of weights no more (docs/choose-bits.md). */
const TOKENS = 2048

/** Most weights that are rounded one by one. In models with more the weights of a block are rounded together. */
const MOST_ALONE = 512

/** Errors without the rounded weight. */
export type MeasuredErrors = Omit<LinearErrors, 'coarse'>

/** Weights that are rounded together, with the number of that change. */
interface Change {
  readonly linears: readonly MeasuredErrors[]
  readonly number: number
}

/** The first samples of a calibration. */
export function firstSamples({ tokens, seqLen, notes }: Calibration, samples: number): Calibration {
  return { tokens: tokens.subarray(0, samples * seqLen), samples, seqLen, notes }
}

/**
 * Sensitivities of all linears that have candidates, in the order of the graph.
 * @param calibration samples, of which the first are used.
 * @throws E_OUTPUT when the hidden states have no room on the disk; the reason of an abort.
 */
export async function measureSensitivities(
  options: Run & { readonly choosing: Choosing },
  analysis: Analysis,
  calibration: Calibration,
  work: Pick<WorkFolder, 'file' | 'path'>,
): Promise<Sensitivities> {
  const { blocks, io } = analysis
  const { session, choosing, onEvent, signal } = options
  const samples = Math.min(calibration.samples, Math.ceil(TOKENS / calibration.seqLen))
  const planOf = blockPlanner(options, analysis)
  const all = blocks.map(block => candidatesOf(block, options, choosing, analysis))
  const count = all.reduce((sum, { length }) => sum + length, 0)
  const alone = count <= MOST_ALONE
  const most = alone ? count : blocks.length
  const runs = runsFor(io, samples)
  const bytes = (most + 2) * runs * byteLength('float32', elementCount(staticShape(blocks[0]!.input)))
  checkDiskSpace([{ what: 'hidden states for sensitivities', folder: work.path, bytes }])
  const steps = blocks.length + 1
  const progress = (done: number) => {
    signal?.throwIfAborted()
    onEvent?.({ type: 'choosing', phase: 'sensitivities', done, total: steps })
  }
  progress(0)
  const changes: Change[] = []
  const states = new SingleChanges(work, planOf(blocks[0]!), runs, most, session)
  try {
    await embed(analysis, firstSamples(calibration, samples), states.float)
    for (const [i, block] of blocks.entries()) {
      const plan = planOf(block)
      const weights = readWeights(block)
      const before = states.begun
      const linears = await candidateErrors(plan, all[i]!, weights, states.float, options)
      for (const some of alone ? linears.map(linear => [linear]) : linears.length > 0 ? [linears] : []) {
        const rounded = some.map(({ linear, coarse }) => [weightInput(block.linears.indexOf(linear)), coarse] as const)
        const version = floatVersion({ ...weights, ...Object.fromEntries(rounded) })
        changes.push({ linears: some.map(withoutWeight), number: await states.begin(plan, version) })
      }
      await states.advance(plan, weights, before)
      progress(i + 1)
    }
    const logits = await logitsDivergence(analysis, session)
    try {
      const divergences = await states.divergences(logits, () => signal?.throwIfAborted())
      progress(steps)
      return {
        format: SENSITIVITY_FORMAT,
        tokens: samples * calibration.seqLen,
        linears: changes.flatMap(({ linears, number }) => sensitivitiesOf(linears, divergences[number]!)),
      }
    } finally {
      await logits.release()
    }
  } finally {
    states.remove()
  }
}

/** Without the rounded weight, which is as large as the float one. */
const withoutWeight = ({ linear, candidates, errors, coarseError }: LinearErrors): MeasuredErrors => ({
  linear,
  candidates,
  errors,
  coarseError,
})

/**
 * Sensitivities of linears that were rounded coarsely together, which led to the divergence `kl`. Each has the share of it that its error
 * has of all. Small divergences grow as squared errors do, so that of a candidate is in proportion.
 */
export function sensitivitiesOf(linears: readonly MeasuredErrors[], kl: number): LinearSensitivity[] {
  const all = linears.reduce((sum, { coarseError }) => sum + coarseError, 0)
  return linears.map(({ linear: { name, inFeatures, outFeatures }, candidates, errors }) => ({
    name,
    inFeatures,
    outFeatures,
    candidates: candidates.map(({ quantizer: { bits, group, symmetric }, sizeBytes }, i) => ({
      bits,
      group: Math.min(group, inFeatures),
      symmetric,
      sizeBytes,
      error: errors[i]!,
      kl: all > 0 ? (kl * errors[i]!) / all : 0,
    })),
  }))
}
