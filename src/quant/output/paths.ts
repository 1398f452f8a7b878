/** @file Path of the output: beside the model, in a folder, or in the layout of transformers.js. */

import { basename, dirname, extname, join, relative, resolve, sep } from 'node:path'
import { QuantError, usageError } from '../../errors.ts'
import { option } from '../../option-mark.ts'
import { HUB_FOLDER } from '../../graph/onnx-file/load.ts'
import type { OutputLayout } from '../terms/options.ts'
import { type HubName, hubNameOf, hubNameOfFile, stemInHub, stemOf } from './hub-names.ts'

export interface OutputPlan {
  /** Absolute path of the .onnx file to write. */
  readonly path: string
  /** Absolute path of the model it is made from. */
  readonly source: string
  /** In the layout of transformers.js: how to ask for the file. */
  readonly hub?: HubName
}

/** Facts that choose the name of an output. */
export interface NamingOptions {
  /** By default the layout that the folders of source and output show. */
  readonly layout?: OutputLayout | undefined
  /** True where what is not quantized is float16. */
  readonly float16?: boolean | undefined
  /** True where it was not float16 in the source. */
  readonly converted?: boolean | undefined
}

/** True for a folder with the name of those in which transformers.js keeps models. */
export const isHubFolder = (folder: string): boolean => basename(resolve(folder)) === HUB_FOLDER

const isModelFile = (path: string): boolean => path.endsWith('.onnx')

/** The name is chosen by the layout. */
function planHubOutput(source: string, asked: string | undefined, scheme: string, float16: boolean): OutputPlan {
  const isInHub = isHubFolder(dirname(source))
  const stem = (isInHub ? stemOf : stemInHub)(basename(source))
  const hub = hubNameOf(stem, scheme, float16)
  const home = asked === undefined ? homeOf(source) : resolve(asked)
  const path = join(isHubFolder(home) ? home : join(home, HUB_FOLDER), hub.file)
  return { path, source, hub }
}

/** The name was chosen by the user; a folder called onnx is the layout of transformers.js all the same. */
function planFile(source: string, path: string): OutputPlan {
  return isHubFolder(dirname(path)) ? { path, source, hub: hubNameOfFile(basename(path)) } : { path, source }
}

/**
 * The path to write: `asked` ending in .onnx is the file, anything else a folder that gets the model's own file name;
 * without it `<name>-<scheme>.onnx` beside the model, `<name>-<scheme>-float16.onnx` where it was converted. In the layout of transformers.js, which is asked for or shown by a folder
 * called onnx, the file gets the name it looks for: onnx/model.onnx -> onnx/model_q4.onnx.
 * @throws E_OUTPUT when that is the model itself. @throws E_USAGE
 */
export function planOutput(
  source: string,
  asked: string | undefined,
  scheme: string,
  { layout, float16 = false, converted = false }: NamingOptions = {},
): OutputPlan {
  const file = asked !== undefined && isModelFile(asked) ? resolve(asked) : undefined
  if (file !== undefined && layout !== undefined && !isHubFolder(dirname(file))) {
    throw usageError(
      `${option('layout', layout)} names the file itself, and ${file} is not in a folder called ${HUB_FOLDER}`,
      `Give the folder that is to hold ${HUB_FOLDER} with ${option('output')}, or leave out ${option('layout')}.`,
      'layout',
    )
  }
  const isHub = layout !== undefined || isHubFolder(dirname(source)) || (asked !== undefined && isHubFolder(asked))
  if (file === undefined && isHub) return planHubOutput(source, asked, scheme, float16)
  const name = basename(source, extname(source))
  const path =
    file ??
    (asked === undefined
      ? join(dirname(source), `${name}-${scheme}${converted ? '-float16' : ''}.onnx`)
      : resolve(asked, basename(source)))
  if (path === resolve(source)) {
    throw new QuantError('E_OUTPUT', `the output would overwrite the model: ${path}`, 'Choose another name with -o.')
  }
  return planFile(source, path)
}

/** The folder with the tokenizer of a model file. */
export const homeOf = (file: string): string => (isHubFolder(dirname(file)) ? dirname(dirname(file)) : dirname(file))

/** A model file seen from the folder with its tokenizer, with slashes: "model.onnx", "onnx/model_q4.onnx". */
export const fromHome = (file: string): string => relative(homeOf(file), file).split(sep).join('/')
