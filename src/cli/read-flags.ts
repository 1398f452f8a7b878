/** @file Options of the commands that change no model: a table per command. */

import type { EvaluateOptions, InspectOptions } from '../quant/terms/read-options.ts'
import { DEVICE_ROW, type FlagRow, JSON_ROW, QUIET_ROW, THREADS_ROW } from './flag-row.ts'
import { number, oneScheme, wholeNumber } from './flag-values.ts'

export const INSPECT_FLAGS: readonly FlagRow<keyof InspectOptions | 'json'>[] = [
  {
    flags: '--target <name>',
    key: 'target',
    help: 'name the kernel of every linear there, and what a faster one wants',
  },
  {
    flags: '--scheme <name>',
    key: 'scheme',
    help: 'scheme to name the kernels for, also as a flag: --w4a16 (default: as the target has it)',
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

export const EVALUATE_FLAGS: readonly FlagRow<keyof EvaluateOptions | 'maxPerplexity' | 'json' | 'quiet'>[] = [
  { flags: '--text <file>', key: 'text', help: 'text (.txt, .md, .jsonl) or token ids (.npy, .jsonl)' },
  {
    flags: '--against <model>',
    key: 'against',
    help: 'another model to measure on the same tokens, such as the float one',
  },
  {
    flags: '--max-perplexity <x>',
    key: 'maxPerplexity',
    help: 'fail (exit code 1) when the perplexity is above',
    parse: number,
  },
  {
    flags: '--seq-len <n>',
    key: 'seqLen',
    help: "tokens per window (default: 256, or the model's positions if fewer)",
    parse: wholeNumber,
  },
  { flags: '--windows <n>', key: 'windows', help: 'only the first so many windows', parse: wholeNumber },
  {
    flags: '--qdq-accuracy-level <n>',
    key: 'qdqAccuracyLevel',
    help: "products of a file made with --format qdq: 0 in float32, 4 with activations of 8 bits (onnxruntime's own choice)",
    parse: wholeNumber,
  },
  THREADS_ROW,
  DEVICE_ROW,
  JSON_ROW,
  QUIET_ROW,
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
