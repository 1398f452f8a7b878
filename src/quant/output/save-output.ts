/** @file The output as a whole: model, data file and companions, checked before long work and published together at its end. */

import { basename, dirname, resolve } from 'node:path'
import { QuantError } from '../../errors.ts'
import { diskError } from '../../files/disk-errors.ts'
import { publishTogether, type SetPlace } from '../../files/file-set.ts'
import { checkPlainName, statsOf } from '../../files/names.ts'
import type { Model } from '../../graph/ir.ts'
import { checkTarget, dataPathOf, type SavedModel, type SaveOptions, writeModel } from '../../graph/onnx-file/save.ts'
import { checkCompanions, writeCompanions } from './companion-files.ts'
import { homeOf, type OutputPlan } from './paths.ts'

/**
 * Refuses what could not be written at the end, before anything is.
 * @param saveParams where learned parameters go, if anywhere. @throws E_OUTPUT
 */
export function checkOutput(model: Model, plan: OutputPlan, saving: SaveOptions, saveParams?: string): void {
  const targets = [plan.path, dataPathOf(plan.path, saving)]
  for (const target of targets) checkTarget(model, target)
  checkCompanions(plan)
  if (saveParams === undefined) return
  const params = resolve(saveParams)
  checkPlainName(params)
  checkTarget(model, params)
  if (targets.includes(params))
    throw new QuantError(
      'E_OUTPUT',
      `${params} cannot hold the parameters: the output goes there`,
      'Choose another name.',
    )
}

/** Names that a run writes to, for clearing up after one that was killed. */
export function placeOf({ path }: OutputPlan, saving: SaveOptions, saveParams?: string): SetPlace {
  const params = saveParams === undefined ? [] : [dirname(resolve(saveParams))]
  return { head: path, others: [dataPathOf(path, saving)], folders: [homeOf(path), ...params] }
}

/**
 * Writes the model and what travels with it; all appears at once or nothing does.
 * @param beforePublish called when everything is on the disk and nothing has its name yet; what it throws ends it without a result.
 * @returns files of the model, and what the user should know. @throws as `writeModel`
 */
export async function saveOutput(
  model: Model,
  plan: OutputPlan,
  saving: SaveOptions,
  beforePublish: () => void = () => {},
): Promise<SavedModel & { readonly notes: readonly string[] }> {
  try {
    return await publishTogether(plan.path, async set => {
      const saved = await writeModel(set, model, saving)
      const { notes } = writeCompanions(set, plan, saved.files)
      set.finish()
      beforePublish()
      return { ...saved, notes: [...notes, ...leftOver(dataPathOf(plan.path, saving), saved.files)] }
    })
  } catch (error) {
    throw diskError(`cannot write ${plan.path}`, error)
  }
}

/** A data file of the model that is replaced may be another model's as well: it is not ours to remove. */
const leftOver = (dataPath: string, files: readonly string[]): string[] =>
  files.includes(dataPath) || !statsOf(dataPath)
    ? []
    : [`${basename(dataPath)} was there before; the output has its weights inside and does not need it`]
