/** @file Bytes of a model file without its origin: files of runs with other options may hold the same model. */

import { readFileSync } from 'node:fs'
import { decodeModel } from '../../src/graph/onnx-file/decode.ts'
import { encodeModel } from '../../src/graph/onnx-file/encode.ts'

/** Metadata that says what a file computes, not where it comes from. */
const KEPT = 'omniquant.scaled_outputs'

export function modelBytes(path: string): Buffer {
  const model = decodeModel(readFileSync(path))
  for (const key of model.metadata.keys()) if (key.startsWith('omniquant.') && key !== KEPT) model.metadata.delete(key)
  return Buffer.from(encodeModel(model))
}
