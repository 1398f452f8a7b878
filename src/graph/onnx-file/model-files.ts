/** @file Files of a model: the .onnx file and the data files its weights lie in. */

import { realpathSync, statSync } from 'node:fs'
import { isFileRange } from '../../files/file-range.ts'
import { type Model, tensorsOf } from '../ir.ts'

/** The model file and the data files its weights lie in. */
export function modelFiles(model: Model): string[] {
  const files = new Set<string>([model.path!])
  for (const { data } of tensorsOf(model)) if (isFileRange(data)) files.add(data.file)
  return [...files]
}

/** Bytes of the model file and the data files its weights lie in; a link and its target count once. */
export function modelSizeBytes(model: Model): number {
  const files = new Set(modelFiles(model).map(file => realpathSync(file)))
  return [...files].reduce((sum, file) => sum + statSync(file).size, 0)
}
