/** @file Options of the command line: a row per option. The help, the parser and the names in messages come from these tables (read-flags.ts has the other commands'). */

import type { QuantizeRequest } from '../engine/messages.ts'
import type { OptionName } from '../option-mark.ts'
import { TARGET_NAMES } from '../quant/terms/targets.ts'
import {
  CONFIG_ROW,
  DEVICE_ROW,
  type FlagRow,
  JSON_ROW,
  longFlag,
  PRINT_CONFIG_ROW,
  QUIET_ROW,
  REPORT_ROW,
  shortFlag,
  THREADS_ROW,
} from './flag-row.ts'
import { allOr, bytes, duration, list, number, oneScheme, weightOverride, wholeNumber } from './flag-values.ts'
import { DOCTOR_FLAGS, EVALUATE_FLAGS, GENERATE_FLAGS, INSPECT_FLAGS } from './read-flags.ts'

export const QUANTIZE_FLAGS: readonly FlagRow<
  keyof QuantizeRequest | 'overridesFile' | 'report' | 'config' | 'printConfig' | 'json' | 'quiet' | 'verbose' | 'log'
>[] = [
  {
    flags: '-o, --output <path>',
    key: 'output',
    help: 'file ending in .onnx, or folder (default: beside the model, named after the scheme)',
  },
  {
    flags: '--layout <name>',
    key: 'layout',
    help: 'transformers.js: onnx/model_q4.onnx, with config.json above (default where a folder is called onnx)',
  },
  {
    group: 'What to make:',
    flags: '--target <name>',
    key: 'target',
    help: `what it will run on, which fills in what is not said: ${TARGET_NAMES.join(', ')}`,
  },
  {
    flags: '--scheme <name>',
    key: 'scheme',
    help: 'bits of weights and activations, also as a flag: --w4a16, --w8a16, --w2a16, --w8a8, --w4a16g64',
    repeatable: true,
    join: oneScheme,
  },
  {
    flags: '--wbits <n>',
    key: 'bits',
    help: 'bits of the weights, 2 to 8, instead of a scheme; files hold 2, 4 or 8 (3 lie in 4; 5, 6 and 7 in 8)',
    parse: wholeNumber,
  },
  {
    flags: '--abits <n>',
    key: 'activationBits',
    help: 'bits of the activations (default: 16, not quantized)',
    parse: wholeNumber,
  },
  {
    flags: '--max-size <size>',
    key: 'maxSize',
    help: 'choose 2, 4 or 8 bits for each weight, so that the output has at most this size: 900MB, 1.5GB',
    parse: bytes,
  },
  {
    flags: '--max-kl <x>',
    key: 'maxKl',
    help: 'choose bits so that it is as small as can be while its logits diverge by at most x, as 0.02',
    parse: number,
  },
  {
    flags: '--sensitivity <file>',
    key: 'sensitivity',
    help: 'measured sensitivities (.json) for that choice: used where the file is there, written where it is not',
  },
  { flags: '--dry-run', key: 'dryRun', help: 'print sensitivities and choice, and write no model' },
  {
    flags: '--group <n>',
    key: 'group',
    help: 'weights that share a scale: 16, 32, 64, 128 or 256 (default: as --target has it)',
    parse: wholeNumber,
  },
  { flags: '--per-channel', key: 'perChannel', help: 'one scale per output instead of groups' },
  { flags: '--symmetric', key: 'symmetric', help: 'no zero points of weights: smaller, less exact' },
  { flags: '--symmetric-activations', key: 'symmetricActivations', help: 'no zero points of activations' },
  {
    flags: '--static-activations',
    key: 'staticActivations',
    help: 'activations as 8- or 16-bit integers (a8, a16) over fixed ranges, as NPUs want them',
  },
  {
    flags: '--format <name>',
    key: 'format',
    help: 'qdq: DequantizeLinear before MatMul, for NPUs; with quantized activations: integer (default) or portable',
  },
  {
    flags: '--ignore <pattern>',
    key: 'ignore',
    help: 'leave linears as they are: down_proj, layers.0, *.o_proj (repeatable)',
    repeatable: true,
  },
  {
    flags: '--override <pattern:wN>',
    key: 'overrides',
    help: 'other bits for some linears: down_proj:w8, layers.0:w8g64sym (repeatable)',
    repeatable: true,
    parse: weightOverride,
  },
  {
    flags: '--overrides <file>',
    key: 'overridesFile',
    help: 'the same from a JSON file: {"down_proj": "w8g64"}',
  },
  {
    flags: '--lm-head <bits>',
    key: 'lmHead',
    help: 'bits of lm_head: 2, 4 or 8 bits, or float (default: as --target has it)',
    parse: wholeNumber,
  },
  {
    flags: '--embedding <bits>',
    key: 'embedding',
    help: 'also quantize the embedding, or float; in the bits of a tied lm_head it is stored once',
    parse: wholeNumber,
  },
  {
    flags: '--accuracy-level <n>',
    key: 'accuracyLevel',
    help: '0 computes in float32, 4 with 8-bit activations, also while learning: faster (default: as --target has it)',
    parse: wholeNumber,
  },
  {
    flags: '--float16',
    key: 'float16',
    help: 'make what stays float float16, inputs and outputs too (default: as in the model)',
  },
  {
    group: 'How to learn it:',
    flags: '--preset <name>',
    key: 'preset',
    help: 'fast (32 x 256 tokens, 4 epochs), default (128 x 512, 4; less for large models), best (128 x 512, 8) or paper (128 x 2048, 20)',
  },
  {
    flags: '--calib <file>',
    key: 'calib',
    help: 'calibration text (.txt, .md, .jsonl) or token ids (.npy, .jsonl); else the model writes one',
  },
  { flags: '--samples <n>', key: 'samples', help: 'calibration samples', parse: wholeNumber },
  { flags: '--seq-len <n>', key: 'seqLen', help: 'tokens per sample', parse: wholeNumber },
  { flags: '--epochs <n>', key: 'epochs', help: 'times all samples are gone through', parse: wholeNumber },
  {
    flags: '--lr <x>',
    key: 'learningRate',
    help: 'learning rate (default: by preset, 0.1, 0.05, 0.03, 0.01)',
    parse: number,
  },
  {
    flags: '--schedule <name>',
    key: 'schedule',
    help: 'how it goes on: cosine (falls to 0) or constant (default: by preset, paper: constant)',
  },
  {
    flags: '--optimizer <name>',
    key: 'optimizer',
    help: 'adamw, stable-spam or sign-sgd, which takes least memory (default: adamw)',
  },
  {
    flags: '--matmul <precision>',
    key: 'matmul',
    help: "of products while learning: float32, tf32 or bf16 (default: the device's own; CUDA: tf32)",
  },
  {
    flags: '--no-lwc',
    key: 'lwc',
    help: 'do not learn the clipping of weights; with nothing else to learn, round to nearest',
  },
  {
    flags: '--rounding <how>',
    key: 'rounding',
    help: 'of weights: nearest, weighted (over ranges of least error), learned, weighted-learned or gptq (default: weighted-learned up to 4 bits, else nearest)',
  },
  {
    flags: '--rounding-lr <x>',
    key: 'roundingLearningRate',
    help: 'learning rate of the rounding, in steps of the grid (default: by preset, 0.008 or 0.004)',
    parse: number,
  },
  {
    flags: '--range <name>',
    key: 'range',
    help: 'where ranges of static activations start: minmax, percentile or mse (default: mse)',
  },
  {
    flags: '--learn-ranges',
    key: 'learnRanges',
    help: 'learn the ranges of static activations (default, unless --no-lwc), or shares of token ranges (default with --let affine)',
  },
  { flags: '--no-learn-ranges', key: 'learnRanges', help: 'do not: keep them as they are observed' },
  {
    flags: '--let [affine]',
    key: 'let',
    help: 'learn equivalent transformations too (default with quantized activations; at level 4 behind norms); affine: and a matrix before each linear',
    parse: allOr,
  },
  // Both rows are one field of the parser's.
  { flags: '--no-let', key: 'let', help: 'do not', parse: allOr },
  {
    flags: '--keep-cache',
    key: 'keepCache',
    help: 'make no transformation that scales the KV cache, so that other files can read it',
  },
  {
    flags: '--let-lr <x>',
    key: 'letLearningRate',
    help: 'learning rate of transformations (default: half of --lr)',
    parse: number,
  },
  {
    flags: '--learn-gains',
    key: 'learnGains',
    help: 'learn the gains of norms too (default up to 4 bits)',
  },
  { flags: '--no-learn-gains', key: 'learnGains', help: 'do not' },
  {
    flags: '--alpha <x>',
    key: 'alpha',
    help: 'share of the difficulty that starts in the weights, 0 to 1 (default: 0.5)',
    parse: number,
  },
  {
    flags: '--lookahead',
    key: 'lookahead',
    help: 'learn for the error behind the next block, and behind lm_head (default with the preset best)',
  },
  { flags: '--no-lookahead', key: 'lookahead', help: 'do not' },
  { flags: '--aug-loss', key: 'augLoss', help: 'aim between the float outputs for float and for quantized inputs' },
  { flags: '--save-params <file>', key: 'saveParams', help: 'also write what was learned (.safetensors)' },
  { flags: '--params <file>', key: 'params', help: 'use what was learned before instead of learning' },
  { flags: '--seed <n>', key: 'seed', help: 'choice of samples (default: 0)', parse: wholeNumber },
  {
    group: 'Running:',
    flags: '--evaluate <file>',
    key: 'evaluate',
    help: 'perplexity of both models on a text or token ids',
  },
  THREADS_ROW,
  DEVICE_ROW,
  {
    flags: '--time-budget <time>',
    key: 'timeBudgetMs',
    help: 'learn from fewer samples so that it ends within 2h, 90m, ...',
    parse: duration,
  },
  {
    flags: '--hidden-states <type>',
    key: 'hiddenStates',
    help: 'float32, or float16 for half the disk while it works (default: float32)',
  },
  {
    flags: '--work-dir <path>',
    key: 'workDir',
    help: 'folder in which the run makes its own for finished blocks (default: beside the output)',
  },
  {
    flags: '--devices <list>',
    key: 'devices',
    help: 'devices that share the learning of each block, as cuda:0,cuda:1',
    parse: list,
  },
  { flags: '--fresh', key: 'fresh', help: 'start over, instead of going on where an earlier run ended' },
  { flags: '--force', key: 'force', help: 'replace an output that is there' },
  {
    flags: '--no-check',
    key: 'check',
    help: 'do not compare the perplexity of both models on held-out calibration text at the end',
  },
  CONFIG_ROW,
  PRINT_CONFIG_ROW,
  REPORT_ROW,
  JSON_ROW,
  QUIET_ROW,
  { flags: '--verbose', key: 'verbose', help: 'also a line for every phase of the work' },
  { flags: '--log <file>', key: 'log', help: 'add all events with their times to a file, as JSON lines' },
]

/** Options of `quantize` that say where it writes and what it tells: of no use to a run that is not made. */
const NOT_FORETOLD = new Set<string>([
  ...['output', 'layout', 'overridesFile', 'evaluate', 'saveParams', 'workDir', 'fresh', 'force', 'check'],
  ...['json', 'quiet', 'verbose', 'log', 'device', 'devices', 'timeBudgetMs', 'params'],
  ...INSPECT_FLAGS.map(({ key }) => key),
])

/** Options of `inspect`: its own, and those of the run to foretell. */
export const DRY_RUN_FLAGS: readonly FlagRow[] = [
  ...INSPECT_FLAGS,
  ...QUANTIZE_FLAGS.filter(({ key }) => !NOT_FORETOLD.has(key)).map((row, i) => ({
    ...row,
    group: i === 0 ? 'Options of quantize, for the run to foretell:' : undefined,
  })),
]

const ROWS: readonly FlagRow[] = [QUANTIZE_FLAGS, EVALUATE_FLAGS, GENERATE_FLAGS, INSPECT_FLAGS, DOCTOR_FLAGS].flat()

/** Name of an option in messages of the command line: `--samples 4` for the key "samples" with the value 4. */
export const flagName: OptionName = (key, value) => {
  // Schemes are flags of their own.
  if (key === 'scheme' && value !== undefined) return `--${value}`
  const rows = ROWS.filter(row => row.key === key)
  const negative = rows.find(row => longFlag(row).startsWith('--no-'))
  const row = value === 'false' ? negative : rows[0]
  if (!row) return `--${key}`
  return value === undefined || value === 'true' || value === 'false' ? shortFlag(row) : `${shortFlag(row)} ${value}`
}

/** Fields of options from the values that were typed. @param typed texts, lists of texts and booleans, by row. @throws E_USAGE, E_SCHEME */
export function valuesOf(typed: readonly (readonly [FlagRow, unknown])[]): Record<string, unknown> {
  return Object.fromEntries(
    typed.map(([row, value]) => {
      const parse = (text: unknown) => (row.parse && typeof text === 'string' ? row.parse(text, longFlag(row)) : text)
      const parsed = Array.isArray(value) ? value.map(parse) : parse(value)
      return [row.key, row.join ? row.join(parsed as string[]) : parsed]
    }),
  )
}
