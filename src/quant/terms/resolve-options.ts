/** @file Resolves options: checks what a caller gave and fills in presets and defaults. Reads no files. */

import { usageError } from '../../errors.ts'
import { option } from '../../option-mark.ts'
import { checkOptions } from './check-options.ts'
import { RULES } from './option-rules.ts'
import type { QuantizeOptions, ResolvedOptions } from './options.ts'
import { LEARNED_BITS, type Preset, PRESETS } from './presets.ts'
import { BASE_SCHEME, candidateSchemes, resolveLimit } from './resolve-choosing.ts'
import { resolveDevices } from './resolve-devices.ts'
import { resolveEmbeddings, resolveScheme } from './resolve-scheme.ts'
import { checkWeights, type QuantScheme } from './scheme.ts'
import { DEFAULT_TARGET, type TargetDefaults, TARGETS } from './targets.ts'

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
  { accuracyLevel, lwc }: Pick<ResolvedOptions, 'accuracyLevel' | 'lwc'>,
  { matrices }: Preset,
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
  const limit = resolveLimit(given)
  const scheme = resolveScheme(limit ? { ...given, scheme: BASE_SCHEME } : given, defaults)
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
  const { let: transformations = defaultTransformations(scheme, { accuracyLevel, lwc }, preset) } = given
  const hasFewBits = scheme.weights.bits <= LEARNED_BITS
  const { rounding = lwc && hasFewBits ? preset.rounding : 'nearest' } = given
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
    // An explicit choice overrides the limit.
    maxRounded: given.rounding === undefined ? preset.maxRounded : undefined,
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
    learnGains: given.learnGains ?? (lwc && hasFewBits && preset.gains),
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
    force: given.force ?? false,
    check: given.check ?? true,
    fresh: given.fresh ?? false,
    ...(limit && {
      choosing: {
        ...limit,
        candidates: candidateSchemes(given, { format, accuracyLevel }),
        sensitivity: given.sensitivity,
        dryRun: given.dryRun ?? false,
      },
    }),
  }
}
