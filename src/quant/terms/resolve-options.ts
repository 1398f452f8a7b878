/** @file Resolves options: checks what a caller gave and fills in presets and defaults. Reads no files. */

import { MATMUL_PRECISIONS } from '../../kernels/matmul-precision.ts'
import { OPTIMIZER_NAMES } from '../../autodiff/optimizers.ts'
import { STATE_TYPES } from '../../calibration/activation-store.ts'
import { usageError } from '../../errors.ts'
import { RANGE_CHOICES } from '../../kernels/choose-range.ts'
import { containerBits } from '../../kernels/pack/matmul-nbits.ts'
import { option } from '../../option-mark.ts'
import {
  bitsOrFloat,
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
import { LEARNED_BITS, PRESETS, SCHEDULES } from './presets.ts'
import { DEVICES, resolveDevices } from './resolve-devices.ts'
import { ROUNDING_NAMES } from './roundings.ts'
import {
  checkScheme,
  checkWeights,
  EMBEDDING_BITS,
  type EmbeddingBits,
  type EmbeddingOptions,
  type OuterWeight,
  parseScheme,
  type PatternOverride,
  type QuantScheme,
} from './scheme.ts'
import { DEFAULT_TARGET, TARGET_NAMES, type TargetDefaults, TARGETS } from './targets.ts'

const isText = (value: unknown): boolean => typeof value === 'string'

const isObject = (value: unknown): boolean => typeof value === 'object' && value !== null

const isOverride = (value: unknown): boolean => isObject(value) && isText((value as PatternOverride).pattern)

const ACCURACY_HINT =
  '0 computes in float32; 4 lets onnxruntime round activations to 8 bits on the fly, which is faster. Learning does the same.'

const RULES: Rules<QuantizeOptions> = {
  model: TEXT,
  output: TEXT,
  target: oneOf(TARGET_NAMES),
  layout: oneOf(['transformers.js']),
  scheme: { holds: value => isText(value) || isObject(value), says: 'takes a text such as w4a16' },
  bits: wholeNumber(1),
  activationBits: wholeNumber(1),
  group: wholeNumber(1),
  perChannel: FLAG,
  symmetric: FLAG,
  symmetricActivations: FLAG,
  staticActivations: FLAG,
  format: oneOf(['integer', 'portable', 'qdq']),
  ignore: listOf(isText, 'patterns'),
  overrides: listOf(isOverride, 'objects { pattern, bits, group?, symmetric? }'),
  lmHead: bitsOrFloat(EMBEDDING_BITS),
  embedding: bitsOrFloat(EMBEDDING_BITS),
  accuracyLevel: oneOf([0, 4], ACCURACY_HINT),
  float16: FLAG,
  preset: TEXT,
  calib: TEXT,
  samples: wholeNumber(1),
  seqLen: wholeNumber(2),
  epochs: wholeNumber(0),
  learningRate: POSITIVE,
  schedule: oneOf(SCHEDULES),
  optimizer: oneOf(OPTIMIZER_NAMES),
  matmul: oneOf(MATMUL_PRECISIONS),
  lwc: FLAG,
  rounding: oneOf(ROUNDING_NAMES),
  roundingLearningRate: POSITIVE,
  range: oneOf(RANGE_CHOICES),
  learnRanges: FLAG,
  let: { holds: value => typeof value === 'boolean' || value === 'affine', says: 'is true, false or affine' },
  keepCache: FLAG,
  letLearningRate: POSITIVE,
  alpha: SHARE,
  augLoss: FLAG,
  lookahead: FLAG,
  hiddenStates: oneOf(STATE_TYPES),
  saveParams: TEXT,
  params: TEXT,
  seed: wholeNumber(0),
  threads: wholeNumber(1),
  device: DEVICE,
  devices: DEVICES,
  timeBudgetMs: POSITIVE,
  workDir: TEXT,
  fresh: FLAG,
}

/** @param defaults of the target. @throws E_USAGE, E_SCHEME */
function resolveScheme(given: QuantizeOptions, defaults: TargetDefaults): QuantScheme {
  const { scheme, bits, activationBits, group, perChannel, symmetric, symmetricActivations, staticActivations } = given
  if (typeof scheme === 'object') {
    const more = [
      'bits',
      'activationBits',
      'group',
      'perChannel',
      'symmetric',
      'symmetricActivations',
      'staticActivations',
    ] as const
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
  if (scheme === undefined && bits === undefined && given.target === undefined) {
    const examples = ['w4a16', 'w3a16', 'w2a16'].map(name => option('scheme', name)).join(', ')
    throw usageError(
      'how many bits shall the weights have?',
      `Give a scheme such as ${examples} or ${option('scheme', 'w8a16')} (${option('scheme', 'w4a16g64')} for groups of 64), or ${option('bits', 'N')}.`,
      'scheme',
    )
  }
  const name = scheme ?? nameOfBits(given)
  const unsaid = staticActivations === undefined && symmetricActivations === undefined && given.format === undefined
  return parseScheme(
    name,
    {
      group,
      perChannel,
      symmetric,
      symmetricActivations,
      staticActivations:
        staticActivations || (unsaid && defaults.format.quantizedActivations === 'qdq' && !isWeightOnly(name)),
    },
    weightBits => defaults.weights[containerBits(weightBits)],
  )
}

const isWeightOnly = (name: string): boolean => parseScheme(name).activations === undefined

/** Name of the scheme that bits say; without any it is that of the target. */
function nameOfBits({ target, bits, activationBits }: QuantizeOptions): string {
  const usual = target === undefined ? undefined : TARGETS[target].scheme
  if (usual === undefined || bits !== undefined) return `w${bits}a${activationBits ?? 16}`
  return activationBits === undefined ? usual : `w${parseScheme(usual).weights.bits}a${activationBits}`
}

/** Bits of lm_head and embedding: as they were given, else as the target has them. */
function resolveEmbeddings(given: QuantizeOptions, scheme: QuantScheme, defaults: TargetDefaults): EmbeddingOptions {
  const width = containerBits(scheme.weights.bits)
  const bitsOf = (key: OuterWeight): EmbeddingBits | undefined => {
    const asked = given[key]
    return asked === 'float' ? undefined : (asked ?? defaults[key][width])
  }
  const wherePossible = (['lmHead', 'embedding'] as const).filter(key => !given[key] && defaults[key][width])
  return { lmHead: bitsOf('lmHead'), embedding: bitsOf('embedding'), wherePossible }
}

/** @throws E_USAGE for what a DequantizeLinear before a MatMul cannot say. */
function checkQdq(
  format: ResolvedOptions['format'],
  { accuracyLevel }: QuantizeOptions,
  { activations }: QuantScheme,
): void {
  if (format !== 'qdq') return
  if (activations && activations.kind !== 'static')
    throw usageError(
      `${option('format', 'qdq')} cannot hold activations that are quantized per token`,
      `Take ${option('staticActivations')}, ${option('scheme', 'w8a16')} or ${option('scheme', 'w4a16')}, or ${option('format', 'portable')}.`,
      'format',
    )
  if (accuracyLevel === 4)
    throw usageError(
      `${option('accuracyLevel', 4)} is an attribute of MatMulNBits, which ${option('format', 'qdq')} does not write`,
      'Leave it out: onnxruntime itself takes level 4 for such files, unless a session option says otherwise.',
      'accuracyLevel',
    )
}

/** Form of linears, unless the run says which. Integer products take codes of 8 bits; static ones of 16 are for NPUs. */
function formatFor({ activations }: QuantScheme, { format }: TargetDefaults): ResolvedOptions['format'] {
  if (!activations) return format.floatActivations
  return activations.bits > 8 && format.quantizedActivations === 'integer' ? 'qdq' : format.quantizedActivations
}

/** @throws E_USAGE for options of quantized activations that have nothing to say, and for a form that cannot hold them. */
function checkActivations(given: QuantizeOptions, { activations }: QuantScheme): void {
  const { format, range, learnRanges } = given
  if (activations?.kind === 'static') {
    if (format !== 'integer' || activations.bits <= 8) return
    throw usageError(
      `${option('format', 'integer')} multiplies codes of 8 bits, not of ${activations.bits}`,
      `Take ${option('format', 'qdq')} or ${option('format', 'portable')}.`,
      'format',
    )
  }
  if (range !== undefined)
    throw usageError(
      `${option('range')} is for static activations`,
      `Say ${option('staticActivations')} too, with a scheme such as ${option('scheme', 'w8a8')}.`,
      'range',
    )
  if (activations) return
  const useless = learnRanges ? option('learnRanges') : given.let === 'affine' ? option('let', 'affine') : undefined
  if (useless)
    throw usageError(
      `${useless} is for quantized activations`,
      `Say a scheme such as ${option('scheme', 'w4a4')} too, or leave it out.`,
      learnRanges ? 'learnRanges' : 'let',
    )
}

/**
 * All transformations where the scheme quantizes activations. At accuracy level 4, where kernels round them to 8 bits, those behind
 * norms: they tame large channels, cost nothing when the model runs and leave the cache as it is (docs/accuracy.md). A run that is not
 * to learn clipping rounds to nearest, and learns nothing else by itself.
 */
function defaultTransformations(
  { activations }: QuantScheme,
  {
    accuracyLevel,
    lwc,
    matrices,
  }: { readonly accuracyLevel: 0 | 4; readonly lwc: boolean; readonly matrices: boolean },
): ResolvedOptions['let'] {
  if (activations) return matrices && activations.bits <= LEARNED_BITS ? 'affine' : true
  return accuracyLevel === 4 && lwc ? 'norm' : false
}

/** True where ranges are found while the model runs. */
const isPerToken = ({ activations }: QuantScheme): boolean => activations !== undefined && activations.kind !== 'static'

/**
 * Checks the options and fills in presets and defaults. Reads no files.
 * @throws E_USAGE, E_SCHEME with the key of the option.
 */
export function resolveOptions(given: QuantizeOptions): ResolvedOptions {
  checkOptions(given, RULES, ['model'])
  const { params, saveParams, threads, overrides = [], lwc = true } = given
  if (params !== undefined && saveParams !== undefined) {
    throw usageError(
      `${option('params')} and ${option('saveParams')} exclude each other`,
      `With ${option('params')} nothing is learned that could be saved.`,
      'saveParams',
    )
  }
  const { target = DEFAULT_TARGET } = given
  const defaults = TARGETS[target]
  const scheme = resolveScheme(given, defaults)
  const format = given.format ?? formatFor(scheme, defaults)
  checkQdq(format, given, scheme)
  checkActivations(given, scheme)
  // The level is an attribute of MatMulNBits, which that form does not write.
  const { accuracyLevel = format === 'qdq' ? 0 : defaults.accuracyLevel } = given
  for (const { bits, group } of overrides) checkWeights(bits, group, 'overrides')
  const { preset: name = 'default' } = given
  if (!Object.hasOwn(PRESETS, name))
    throw usageError(`there is no preset "${name}"`, `There are ${Object.keys(PRESETS).join(', ')}.`, 'preset')
  const preset = PRESETS[name]
  const { learningRate = preset.learningRate } = given
  const { let: transformations = defaultTransformations(scheme, { accuracyLevel, lwc, matrices: preset.matrices }) } =
    given
  const { rounding = lwc && scheme.weights.bits <= LEARNED_BITS ? preset.rounding : 'nearest' } = given
  return {
    model: given.model,
    target,
    output: given.output,
    layout: given.layout,
    scheme,
    ignore: given.ignore ?? [],
    overrides,
    ...resolveEmbeddings(given, scheme, defaults),
    format,
    accuracyLevel,
    ...(defaults.lookup && { lookup: defaults.lookup }),
    float16: given.float16 ?? false,
    lwc,
    rounding,
    roundingLearningRate: given.roundingLearningRate ?? preset.roundingLearningRate,
    range: given.range ?? 'mse',
    learnRanges: given.learnRanges ?? (lwc && (!isPerToken(scheme) || transformations === 'affine')),
    let: transformations,
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
    lookahead: given.lookahead ?? preset.lookahead,
    hiddenStates: given.hiddenStates ?? 'float32',
    saveParams,
    params,
    seed: given.seed ?? 0,
    session: { threads, ...resolveDevices(given), matmul: given.matmul },
    // An explicit number of samples or epochs overrides the work limit.
    maxWork: given.samples === undefined && given.epochs === undefined ? preset.maxWork : undefined,
    timeBudgetMs: given.timeBudgetMs,
    workDir: given.workDir,
    fresh: given.fresh ?? false,
  }
}
