/** @file Options of the commands that change no model: a table per command. */

import type { GenerateOptions } from '../quant/terms/generate-options.ts'
import type { EvaluateOptions, InspectOptions } from '../quant/terms/read-options.ts'
import {
  CONFIG_ROW,
  DEVICE_ROW,
  type FlagRow,
  JSON_ROW,
  PRINT_CONFIG_ROW,
  QUIET_ROW,
  REPORT_ROW,
  THREADS_ROW,
} from './flag-row.ts'
import { number, oneScheme, wholeNumber } from './flag-values.ts'
import type { Limits } from './limits.ts'

/** Options of `inspect` besides those of `quantize`, which say what run is to be foretold. */
export const INSPECT_FLAGS: readonly FlagRow<keyof InspectOptions | 'json'>[] = [
  {
    flags: '--target <name>',
    key: 'target',
    help: 'name the kernel of every linear there, and what a faster one wants',
  },
  {
    flags: '--scheme <name>',
    key: 'scheme',
    help: 'foretell a run of quantize, also as a flag: --w4a16: size, memory, disk, time; with --target also its kernels',
    repeatable: true,
    join: oneScheme,
  },
  {
    flags: '--seq-len <n>',
    key: 'seqLen',
    help: 'tokens per sequence to look at the graph with',
    parse: wholeNumber,
  },
  JSON_ROW,
]

const QDQ_ROW: FlagRow<'qdqAccuracyLevel'> = {
  flags: '--qdq-accuracy-level <n>',
  key: 'qdqAccuracyLevel',
  help: "products of a file made with --format qdq: 0 in float32, 4 with activations of 8 bits (onnxruntime's own choice)",
  parse: wholeNumber,
}

const TOKENIZER_ROW: FlagRow<'tokenizer'> = {
  flags: '--tokenizer <path>',
  key: 'tokenizer',
  help: 'model or folder whose tokenizer.json is used (default: the first beside one of the models)',
}

export const EVALUATE_FLAGS: readonly FlagRow<
  keyof EvaluateOptions | keyof Limits | 'report' | 'config' | 'printConfig' | 'json' | 'quiet'
>[] = [
  { flags: '--text <file>', key: 'text', help: 'text (.txt, .md, .jsonl) or token ids (.npy, .jsonl)' },
  {
    flags: '--against <model>',
    key: 'against',
    help: 'the reference, such as the float model: ratio of perplexities, KL divergence, share of same likeliest tokens',
  },
  TOKENIZER_ROW,
  {
    flags: '--max-perplexity <x>',
    key: 'maxPerplexity',
    help: 'fail (exit code 1) when the perplexity of a model is above',
    parse: number,
  },
  {
    flags: '--max-ratio <x>',
    key: 'maxRatio',
    help: 'fail when perplexity / that of --against is above',
    parse: number,
  },
  {
    flags: '--max-kl <x>',
    key: 'maxKl',
    help: 'fail when the mean KL divergence from --against is above',
    parse: number,
  },
  {
    flags: '--min-agreement <x>',
    key: 'minAgreement',
    help: 'fail when the share of tokens with the same likeliest next token is below, 0 to 1',
    parse: number,
  },
  {
    flags: '--seq-len <n>',
    key: 'seqLen',
    help: "tokens per window (default: 256, or the model's positions if fewer)",
    parse: wholeNumber,
  },
  {
    flags: '--stride <n>',
    key: 'stride',
    help: 'overlapping windows: each starts so many tokens after the last, and only new tokens count (default: no overlap)',
    parse: wholeNumber,
  },
  { flags: '--windows <n>', key: 'windows', help: 'only the first so many windows', parse: wholeNumber },
  QDQ_ROW,
  THREADS_ROW,
  DEVICE_ROW,
  CONFIG_ROW,
  PRINT_CONFIG_ROW,
  REPORT_ROW,
  JSON_ROW,
  QUIET_ROW,
]

export const GENERATE_FLAGS: readonly FlagRow<keyof GenerateOptions | 'json'>[] = [
  { flags: '--max-tokens <n>', key: 'maxTokens', help: 'tokens to write at most (default: 128)', parse: wholeNumber },
  {
    flags: '--compare <model>',
    key: 'compare',
    help: 'let another model, such as the float one, continue the same prompt: both texts, and the first token at which they part',
  },
  {
    flags: '--temperature <x>',
    key: 'temperature',
    help: 'draw tokens; 0 takes the likeliest (default: 0, or 1 with --top-k or --top-p)',
    parse: number,
  },
  { flags: '--top-k <n>', key: 'topK', help: 'draw from the likeliest n tokens', parse: wholeNumber },
  {
    flags: '--top-p <x>',
    key: 'topP',
    help: 'draw from the likeliest tokens that together have this probability',
    parse: number,
  },
  { flags: '--seed <n>', key: 'seed', help: 'seed of what is drawn (default: 0)', parse: wholeNumber },
  TOKENIZER_ROW,
  QDQ_ROW,
  THREADS_ROW,
  DEVICE_ROW,
  JSON_ROW,
]

export const DOCTOR_FLAGS: readonly FlagRow<'install' | 'into' | 'json'>[] = [
  {
    flags: '--install-cuda',
    key: 'install',
    help: "fetch onnxruntime's CUDA provider, CUDA and cuDNN from PyPI (Linux x64, 1.1 GB)",
  },
  {
    flags: '--into <folder>',
    key: 'into',
    help: 'folder for --install-cuda (default: omniquant/ in $XDG_DATA_HOME or ~/.local/share)',
  },
  JSON_ROW,
]
