/** @file An output that is there before the run: replaced when asked for, otherwise refused before any work. */

import { lstatSync } from 'node:fs'
import { QuantError } from '../errors.ts'
import { statsOf } from '../files/names.ts'
import { loadModel } from '../graph/onnx-file/load.ts'
import { option } from '../option-mark.ts'
import { type Provenance, readProvenance, runOf } from './provenance.ts'

/** Origin of the file; undefined where another program made it, or it cannot be read. */
function provenanceAt(path: string): Provenance | undefined {
  try {
    return readProvenance(loadModel(path))
  } catch {
    return undefined
  }
}

/**
 * The refusal of a run whose output is there; undefined where nothing has its name.
 * @param run digest of what the run is to make.
 */
export function existingOutput(
  path: string,
  run: string,
): { readonly same: boolean; readonly refusal: QuantError } | undefined {
  if (statsOf(path, lstatSync) === undefined) return undefined
  const provenance = provenanceAt(path)
  if (runOf(provenance) === run) {
    const refusal = new QuantError(
      'E_OUTPUT',
      `${path} is there already, made with the same options`,
      `Nothing is left to do. ${option('force', true)} makes it again.`,
    )
    return { same: true, refusal }
  }
  const what = provenance ? `, made with other options (${provenance['scheme']})` : ''
  const refusal = new QuantError(
    'E_OUTPUT',
    `${path} is there already${what}`,
    `Choose another name or folder with ${option('output')}, or replace it with ${option('force', true)}.`,
  )
  return { same: false, refusal }
}
