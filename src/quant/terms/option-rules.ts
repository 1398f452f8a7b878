/** @file Rules of the options of `quantize`: what each may be, one by one. */

import { MATMUL_PRECISIONS } from '../../kernels/matmul-precision.ts'
import { OPTIMIZER_NAMES } from '../../autodiff/optimizers.ts'
import { STATE_TYPES } from '../../calibration/activation-store.ts'
import { RANGE_CHOICES } from '../../kernels/choose-range.ts'
import {
  bitsOrFloat,
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
import type { QuantizeOptions } from './options.ts'
import { PRESETS, SCHEDULES } from './presets.ts'
import { DEVICES } from './resolve-devices.ts'
import { ROUNDING_NAMES } from './roundings.ts'
import { EMBEDDING_BITS, GROUP_SIZES, type PatternOverride } from './scheme.ts'
import { TARGET_NAMES } from './targets.ts'

const isText = (value: unknown): boolean => typeof value === 'string'

const isObject = (value: unknown): boolean => typeof value === 'object' && value !== null

const OVERRIDE_KEYS: readonly string[] = ['pattern', 'bits', 'group', 'symmetric'] satisfies (keyof PatternOverride)[]

const isOverride = (value: unknown): boolean =>
  isObject(value) &&
  isText((value as PatternOverride).pattern) &&
  Object.keys(value as object).every(key => OVERRIDE_KEYS.includes(key))

/** Schemes to offer; others can be typed as well. */
export const USUAL_SCHEMES: readonly string[] = ['w4a16', 'w8a16', 'w2a16', 'w8a8', 'w4a8', 'w4a4']

const ACCURACY_HINT =
  '0 computes in float32; 4 lets onnxruntime round activations to 8 bits on the fly, which is faster. Learning does the same.'

export const RULES: Rules<QuantizeOptions> = {
  model: TEXT,
  output: TEXT,
  target: oneOf(TARGET_NAMES),
  layout: oneOf(['transformers.js']),
  scheme: {
    holds: value => isText(value) || isObject(value),
    says: 'takes a text such as w4a16',
    values: USUAL_SCHEMES,
  },
  bits: wholeNumber(1),
  activationBits: wholeNumber(1),
  maxSize: { ...wholeNumber(1), hint: 'It is a number of bytes; 900MB and 1.5GB are possible on the command line.' },
  maxKl: POSITIVE,
  sensitivity: TEXT,
  dryRun: FLAG,
  group: { ...wholeNumber(1), values: GROUP_SIZES },
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
  preset: { ...TEXT, values: Object.keys(PRESETS) },
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
  let: {
    holds: value => typeof value === 'boolean' || value === 'affine',
    says: 'is true, false or affine',
    values: ['affine'],
  },
  keepCache: FLAG,
  letLearningRate: POSITIVE,
  learnGains: FLAG,
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
  force: FLAG,
  check: FLAG,
  fresh: FLAG,
}
