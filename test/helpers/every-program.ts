/** @file Programs that a run can make for a block, for tests that hold for all of them. */

import { OPTIMIZER_NAMES, optimizerOf } from '../../src/autodiff/optimizers.ts'
import type { Graph } from '../../src/graph/ir.ts'
import type { Analysis } from '../../src/quant/find/analysis.ts'
import { findExperts } from '../../src/quant/find/experts.ts'
import { ChannelRanges } from '../../src/quant/learn/channel-ranges.ts'
import { MatrixErrors } from '../../src/quant/learn/choose-matrices.ts'
import { clipProgram, gramProgram, objectiveProgram, roundingProgram } from '../../src/quant/learn/clip-programs.ts'
import { foldPrograms } from '../../src/quant/learn/fold-programs.ts'
import { forwardProgram } from '../../src/quant/learn/forward-program.ts'
import { blockParameters, observedValues } from '../../src/quant/learn/learnables.ts'
import { objectiveFor } from '../../src/quant/learn/objective.ts'
import { staticSites } from '../../src/quant/learn/ranges.ts'
import { TokenCounts } from '../../src/quant/learn/token-counts.ts'
import { trainingProgram } from '../../src/quant/learn/training-program.ts'
import { blockPlanner } from '../../src/quant/plan/block-planner.ts'
import type { Method } from '../../src/quant/terms/options.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { methodOf } from './method.ts'
import { noStart } from './no-start.ts'

const method = (scheme: string, given: Partial<Method> = {}, parse: Parameters<typeof parseScheme>[1] = {}): Method =>
  methodOf({ ...given, scheme: parseScheme(scheme, parse) })

/** Options of runs by name: each makes other programs. */
export const METHODS: Readonly<Record<string, Method>> = {
  'W4A16 per channel': method('w4a16', {}, { perChannel: true }),
  'W4A16 g32': method('w4a16g32'),
  'W3A16 g32 symmetric': method('w3a16g32', {}, { symmetric: true }),
  'W2A16 g64': method('w2a16g64'),
  'W4A16 with transformations': method('w4a16g32', { let: true }),
  'W4A4 with transformations': method('w4a4', { let: true }),
  'W4A4 with matrices': method('w4a4', { let: 'affine', learnRanges: true }),
  'W4A8 with matrices, fixed ranges': method('w4a8', { let: 'affine', learnRanges: true }, { staticActivations: true }),
  W8A8: method('w8a8', { let: false }),
  'W8A8, fixed ranges': method('w8a8', { learnRanges: true }, { staticActivations: true }),
  'W4A16 g32 at level 4': method('w4a16g32', { accuracyLevel: 4 }),
  'W4A16 g32 at level 4 with transformations': method('w4a16g32', { accuracyLevel: 4, let: 'norm' }),
  'W2A16 g32, learned rounding': method('w2a16g32', { rounding: 'learned' }),
  'W4A16 g32, qdq': method('w4a16g32', { format: 'qdq' }),
}

/** Start of learning without samples: ranges of fixed sites are any numbers. */
function startOf(plan: Parameters<typeof blockParameters>[0], given: Method) {
  const siteRanges = new Map(staticSites(plan).map(site => [site, { lo: -1, hi: 1 }]))
  return { ...noStart(given), siteRanges }
}

/** Programs of the first block: training with every optimizer, forward, folding. Each with a name. */
export function blockPrograms(analysis: Analysis, given: Method): [string, Graph][] {
  const plan = blockPlanner(given, analysis)(analysis.blocks[0]!)
  const vector = blockParameters(plan, startOf(plan, given))
  const { linears, changed, constants } = foldPrograms(plan, vector)
  const observers = [
    ...new ChannelRanges(observedValues(plan, given)).observers,
    ...new TokenCounts(findExperts(plan.block)).observers,
  ]
  const choice = new MatrixErrors(plan).observers
  return [
    ...OPTIMIZER_NAMES.map((name): [string, Graph] => [
      `training with ${name}`,
      trainingProgram(plan, vector, optimizerOf(name, vector.segments)),
    ]),
    ...[0, analysis.blocks.length - 1].map((index): [string, Graph] => [
      `training behind block ${index}`,
      trainingProgram(plan, vector, optimizerOf('adamw', vector.segments), {
        objective: objectiveFor({ lookahead: true }, analysis, index),
      }),
    ]),
    ['float forward', forwardProgram(plan, { outputs: true, observers })],
    ['quantized forward', forwardProgram(plan, { changed, quantized: true, outputs: true, losses: true })],
    ...(choice.length > 0
      ? [['choice of matrices', forwardProgram(plan, { changed, observers: choice })] as [string, Graph]]
      : []),
    ...linears.map(({ index, program }): [string, Graph] => [`fold ${index}`, program]),
    ...(constants ? [['fold of constants', constants] as [string, Graph]] : []),
  ]
}

/** Programs for lm_head and embeddings. */
export function outerPrograms(bits: number): [string, Graph][] {
  const quantizer = { bits, group: 32, symmetric: false, scaleDtype: 'float32' } as const
  const shape = { rows: 32, K: 64, n: 8 }
  return [
    ['rounding', roundingProgram(64, 8, quantizer)],
    ['objective', objectiveProgram(64, 8, 'gram')],
    ['gram', gramProgram(16, 64)],
    ...(['both', 'each'] as const).flatMap(step =>
      (['none', 'channels', 'gram'] as const).map((weighing): [string, Graph] => [
        `clip ${step}, weighed by ${weighing}`,
        clipProgram(step, { ...shape, weighing }, quantizer),
      ]),
    ),
  ]
}
