/** @file Decoders of two files: one for the prompt (prefill), one for the tokens after it (decode). Knows file names only. */

import { existsSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

/** Names that optimum gave such files (before it merged them into one), and what other tools put behind them: "_fp16". */
const PAIRED_NAME = /^decoder(_with_past)?_model(.*)\.onnx$/

/** File name of the other half, where it lies beside the model at `path`. */
export function partnerOf(path: string): string | undefined {
  const [, withPast, rest] = PAIRED_NAME.exec(basename(path)) ?? []
  if (rest === undefined) return undefined
  const partner = `decoder${withPast ? '' : '_with_past'}_model${rest}.onnx`
  return existsSync(join(dirname(path), partner)) ? partner : undefined
}
