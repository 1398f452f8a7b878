/** @file Resolves options: checks what a caller gave and fills in presets and defaults. Reads no files. */

import { OPTIMIZER_NAMES } from '../../autodiff/optimizers.ts'
import { usageError } from '../../errors.ts'
import { option } from '../../option-mark.ts'
import {
  bitsOf,
  checkOptions,
  DEVICE,
  FLAG,
  listOf,
  oneOf,
  POSITIVE,
  type Rules,
  SHARE,
  TEXT,
  wholeNumber,
} from './check-options.ts'
import type { QuantizeOptions, ResolvedOptions } from './options.ts'
import { PRESETS, SCHEDULES } from './presets.ts'
import {
  checkScheme,
  checkWeights,
  EMBEDDING_BITS,
  parseScheme,
  type PatternOverride,
  type QuantScheme,
} from './scheme.ts'

const isText = (value: unknown): boolean => typeof value === 'string'

const isObject = (value: unknown): boolean => typeof value === 'object' && value !== null

const isOverride = (value: unknown): boolean => isObject(value) && isText((value as PatternOverride).pattern)

const ACCURACY_HINT =
  '0 computes in float32; 4 lets onnxruntime round activations to 8 bits on the fly, which is faster and less exact.'

const RULES: Rules<QuantizeOptions> = {
  model: TEXT,
  output: TEXT,
  scheme: { holds: value => isText(value) || isObject(value), says: 'takes a text such as w4a16' },
  bits: wholeNumber(1),
  activationBits: wholeNumber(1),
  group: wholeNumber(1),
  perChannel: FLAG,
  symmetric: FLAG,
  symmetricActivations: FLAG,
  format: oneOf(['integer', 'portable']),
  ignore: listOf(isText, 'patterns'),
  overrides: listOf(isOverride, 'objects { pattern, bits, group?, symmetric? }'),
  lmHead: bitsOf(EMBEDDING_BITS),
  embedding: bitsOf(EMBEDDING_BITS),
  accuracyLevel: oneOf([0, 4], ACCURACY_HINT),
  preset: TEXT,
  calib: TEXT,
  samples: wholeNumber(1),
  seqLen: wholeNumber(2),
  epochs: wholeNumber(0),
  learningRate: POSITIVE,
  schedule: oneOf(SCHEDULES),
  optimizer: oneOf(OPTIMIZER_NAMES),
  lwc: FLAG,
  rounding: oneOf(['nearest', 'learned']),
  roundingLearningRate: POSITIVE,
  let: FLAG,
  keepCache: FLAG,
  letLearningRate: POSITIVE,
  alpha: SHARE,
  augLoss: FLAG,
  saveParams: TEXT,
  params: TEXT,
  seed: wholeNumber(0),
  threads: wholeNumber(1),
  device: DEVICE,
  timeBudgetMs: POSITIVE,
  workDir: TEXT,
  fresh: FLAG,
}

/** Steps of the grid that the first step of learning moves a weight. */
const DEFAULT_ROUNDING_RATE = 4e-3

/** @throws E_USAGE, E_SCHEME */
function resolveScheme(given: QuantizeOptions): QuantScheme {
  const { scheme, bits, activationBits, group, perChannel, symmetric, symmetricActivations } = given
  if (typeof scheme === 'object') {
    const more = ['bits', 'activationBits', 'group', 'perChannel', 'symmetric', 'symmetricActivations'] as const
    const double = more.find(key => given[key] !== undefined)
    if (double) throw usageError(`${option('scheme')} as an object says everything: leave out ${option(double)}`)
    return checkScheme(scheme)
  }
  if (scheme !== undefined && (bits !== undefined || activationBits !== undefined)) {
    throw usageError(
      `${option('scheme', scheme)} already says how many bits`,
      `Leave out ${option('bits')} and ${option('activationBits')}.`,
      'bits',
    )
  }
  if (scheme === undefined && bits === undefined) {
    const examples = ['w4a16', 'w3a16', 'w2a16'].map(name => option('scheme', name)).join(', ')
    throw usageError(
      'how many bits shall the weights have?',
      `Give a scheme such as ${examples} or ${option('scheme', 'w8a16')} (${option('scheme', 'w4a16g64')} for groups of 64), or ${option('bits', 'N')}.`,
      'scheme',
    )
  }
  return parseScheme(scheme ?? `w${bits}a${activationBits ?? 16}`, {
    group,
    perChannel,
    symmetric,
    symmetricActivations,
  })
}

/**
 * Checks the options and fills in presets and defaults. Reads no files.
 * @throws E_USAGE, E_SCHEME with the key of the option.
 */
export function resolveOptions(given: QuantizeOptions): ResolvedOptions {
  checkOptions(given, RULES, ['model'])
  const { params, saveParams, threads, device = 'cpu', overrides = [] } = given
  if (params !== undefined && saveParams !== undefined) {
    throw usageError(
      `${option('params')} and ${option('saveParams')} exclude each other`,
      `With ${option('params')} nothing is learned that could be saved.`,
      'saveParams',
    )
  }
  const scheme = resolveScheme(given)
  for (const { bits, group } of overrides) checkWeights(bits, group, 'overrides')
  const { preset: name = 'default' } = given
  if (!Object.hasOwn(PRESETS, name))
    throw usageError(`there is no preset "${name}"`, `There are ${Object.keys(PRESETS).join(', ')}.`, 'preset')
  const preset = PRESETS[name]
  const { learningRate = preset.learningRate } = given
  return {
    model: given.model,
    output: given.output,
    scheme,
    ignore: given.ignore ?? [],
    overrides,
    lmHead: given.lmHead,
    embedding: given.embedding,
    format: given.format ?? 'integer',
    accuracyLevel: given.accuracyLevel ?? 0,
    lwc: given.lwc ?? true,
    rounding: given.rounding ?? 'nearest',
    roundingLearningRate: given.roundingLearningRate ?? DEFAULT_ROUNDING_RATE,
    let: given.let ?? scheme.activations !== undefined,
    keepCache: given.keepCache ?? false,
    calib: given.calib,
    samples: given.samples ?? preset.samples,
    seqLen: given.seqLen ?? preset.seqLen,
    capSeqLen: given.seqLen === undefined,
    epochs: given.epochs ?? preset.epochs,
    learningRate,
    letLearningRate: given.letLearningRate ?? learningRate / 2,
    schedule: given.schedule ?? preset.schedule,
    optimizer: given.optimizer ?? 'adamw',
    alpha: given.alpha ?? 0.5,
    augLoss: given.augLoss ?? false,
    saveParams,
    params,
    seed: given.seed ?? 0,
    session: { threads, device },
    // An explicit number of samples or epochs overrides the work limit.
    maxWork: given.samples === undefined && given.epochs === undefined ? preset.maxWork : undefined,
    timeBudgetMs: given.timeBudgetMs,
    workDir: given.workDir,
    fresh: given.fresh ?? false,
  }
}
