/** @file The data file of an output: there or not, and its name. */

import { basename } from 'node:path'
import { findFile, readJsonFile } from '../../decoder/model-folder.ts'
import type { Model } from '../../graph/ir.ts'
import { modelFiles } from '../../graph/onnx-file/model-files.ts'
import { hasExternalSource, type SaveOptions } from '../../graph/onnx-file/save.ts'
import { dataFilesPromised, type Json } from './hub-config.ts'
import { stemOf } from './hub-names.ts'
import { homeOf, type OutputPlan } from './paths.ts'

/** optimum and transformers.js read `model.onnx_data`; the former looks for no other name on the Hub. */
const HUB_ENDING = '_data'

/** onnxruntime-genai's builder and torch's exporter write `model.onnx.data`. */
const GENAI_ENDING = '.data'

/** The ending by which the source names its own data files; those of the Hub may be numbered. */
function endingOfSource(model: Model): string | undefined {
  const names = modelFiles(model)
    .slice(1)
    .map(file => basename(file))
  if (names.some(name => /\.onnx_data(_\d+)?$/.test(name))) return HUB_ENDING
  return names.some(name => name.endsWith(GENAI_ENDING)) ? GENAI_ENDING : undefined
}

/**
 * Decides about the data file before the run, because afterwards tensors come from the work folder as well. Below 1.5 GB one file holds
 * everything, unless the configuration beside the source asks for more: config.json with transformers.js' `use_external_data_format`,
 * or a folder of onnxruntime-genai that has a data file. Other readers take either form. The data file is named as the source's own is;
 * without one as `optimum` and transformers.js look for it, which ask for the name, while onnxruntime itself reads it from the model.
 * @throws E_INPUTS when config.json is not JSON.
 */
export function savingOf(model: Model, { path, source, hub }: OutputPlan): SaveOptions {
  const folders = [homeOf(source)]
  const config = findFile(folders, 'config.json')
  const isGenai = findFile(folders, 'genai_config.json') !== undefined
  const promised =
    config === undefined
      ? 0
      : dataFilesPromised(
          readJsonFile(config, 'E_INPUTS') as Json,
          basename(path),
          hub?.stem ?? stemOf(basename(source)),
        )
  const ending = hub ? HUB_ENDING : (endingOfSource(model) ?? (isGenai ? GENAI_ENDING : HUB_ENDING))
  return {
    externalData: promised > 0 || (isGenai && !hub && hasExternalSource(model)) ? true : 'when-large',
    dataFileName: `${basename(path)}${ending}`,
  }
}
