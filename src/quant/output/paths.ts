/** @file Path of the output: beside the model, in a folder, or in the layout of transformers.js. */

import { existsSync } from 'node:fs'
import { basename, dirname, extname, join, resolve } from 'node:path'
import { QuantError } from '../../errors.ts'

export interface OutputPlan {
  /** Absolute path of the .onnx file to write. */
  readonly path: string
  /** Absolute path of the model it is made from. */
  readonly source: string
  /** Name of its data file, if it gets one, where readers expect a certain name. */
  readonly dataFileName?: string
}

/** Folder in which transformers.js keeps models, below the one with tokenizer and configuration. */
const HUB_FOLDER = 'onnx'

/** True for a folder with the name of those in which transformers.js keeps models. */
export const isHubFolder = (folder: string): boolean => basename(resolve(folder)) === HUB_FOLDER

/**
 * The file name by which transformers.js finds a model of a dtype: "model_q4" for dtype "q4", "model_q4f16" where the rest is
 * float16; for what it has no dtype for, the scheme itself (to be loaded with `model_file_name`).
 */
function hubName(source: string, scheme: string, float16: boolean): string {
  const [, stem, suffix] = /^(.*?)(_fp16)?$/.exec(basename(source, extname(source)))!
  const half = float16 || suffix !== undefined
  const bits = /^w([1248])a16/.exec(scheme)?.[1]
  const dtype = bits === undefined || bits === '8' ? `${half ? 'fp16_' : ''}${scheme}` : `q${bits}${half ? 'f16' : ''}`
  return `${stem}_${dtype}.onnx`
}

/** For a model of the transformers.js layout: beside it, or in `asked`/onnx. */
function planHubOutput(source: string, asked: string | undefined, scheme: string, float16: boolean): OutputPlan {
  const name = hubName(source, scheme, float16)
  const folder =
    asked === undefined ? dirname(source) : isHubFolder(asked) ? resolve(asked) : resolve(asked, HUB_FOLDER)
  const path = join(folder, name)
  if (existsSync(path)) {
    throw new QuantError(
      'E_OUTPUT',
      `${path} is there already`,
      'It may be the one that came with the model: move it away, or choose another folder or file name with -o.',
    )
  }
  return { path, source, dataFileName: `${name}_data` }
}

/**
 * The path to write: `asked` ending in .onnx is the file, anything else a folder that gets the model's own file name;
 * without it `<name>-<scheme>.onnx` beside the model. Models in a folder called onnx (the layout of transformers.js) get the name
 * it looks for: onnx/model.onnx -> onnx/model_q4.onnx.
 * @param float16 the output is made a float16 model: `<name>-<scheme>-float16.onnx`, onnx/model_q4f16.onnx.
 * @throws E_OUTPUT when that is the model itself, or when it would replace another file of the transformers.js layout.
 */
export function planOutput(source: string, asked: string | undefined, scheme: string, float16 = false): OutputPlan {
  if (isHubFolder(dirname(source)) && !asked?.endsWith('.onnx')) return planHubOutput(source, asked, scheme, float16)
  const name = basename(source, extname(source))
  const path =
    asked === undefined
      ? join(dirname(source), `${name}-${scheme}${float16 ? '-float16' : ''}.onnx`)
      : asked.endsWith('.onnx')
        ? resolve(asked)
        : resolve(asked, basename(source))
  if (path === resolve(source)) {
    throw new QuantError('E_OUTPUT', `the output would overwrite the model: ${path}`, 'Choose another name with -o.')
  }
  return { path, source }
}

/** The folder with the tokenizer of a model file. */
export const homeOf = (file: string): string => (isHubFolder(dirname(file)) ? dirname(dirname(file)) : dirname(file))
