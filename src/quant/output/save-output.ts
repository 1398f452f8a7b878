/** @file The output as a whole: model, data file and companions, checked before long work and published together at its end. */

import { basename, dirname, join, resolve } from 'node:path'
import { inputRole } from '../../decoder/io-roles.ts'
import { QuantError } from '../../errors.ts'
import { diskError } from '../../files/disk-errors.ts'
import { publishTogether, type SetPlace } from '../../files/file-set.ts'
import { checkPlainName, statsOf } from '../../files/names.ts'
import type { Model } from '../../graph/ir.ts'
import { checkTarget, dataPathOf, type SavedModel, type SaveOptions, writeModel } from '../../graph/onnx-file/save.ts'
import { checkCompanions, writeCompanions } from './companion-files.ts'
import { isCompanion } from './companion-names.ts'
import { hubOptions } from './hub-names.ts'
import { fromHome, homeOf, type OutputPlan } from './paths.ts'

/**
 * Refuses what could not be written at the end, before anything is.
 * @param saveParams where learned parameters go, if anywhere. @param inputs files that the run reads besides the model.
 * @throws E_OUTPUT
 */
export function checkOutput(
  model: Model,
  plan: OutputPlan,
  saving: SaveOptions,
  saveParams?: string,
  inputs: readonly string[] = [],
): void {
  const targets = [plan.path, dataPathOf(plan.path, saving)]
  for (const target of targets) checkTarget(model, target)
  checkCompanions(plan)
  if (saveParams === undefined) return
  const params = resolve(saveParams)
  checkPlainName(params)
  checkTarget(model, params)
  const reasons: readonly (readonly [boolean, string])[] = [
    [targets.includes(params), 'the output goes there'],
    [isCompanion(basename(params)), 'clients look for another file under that name'],
    [inputs.some(input => isSameFile(params, input)), 'this run reads it'],
  ]
  const reason = reasons.find(([isTaken]) => isTaken)?.[1]
  if (reason === undefined) return
  throw new QuantError('E_OUTPUT', `${params} cannot hold the parameters: ${reason}`, 'Choose another name.')
}

function isSameFile(a: string, b: string): boolean {
  const [one, other] = [statsOf(a), statsOf(b)]
  return one !== undefined && other !== undefined && one.dev === other.dev && one.ino === other.ino
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
      const { copied, notes } = writeCompanions(set, plan, saved.files, cacheTypeOf(model))
      set.finish()
      beforePublish()
      const left = leftOver(dataPathOf(plan.path, saving), saved.files)
      return { ...saved, notes: [...hubNotes(plan, saved.files, copied), ...notes, ...left] }
    })
  } catch (error) {
    throw diskError(`cannot write ${plan.path}`, error)
  }
}

/** Type of the model's key and value caches, by the names that transformers.js has for them; undefined where it has none. */
const cacheTypeOf = ({ graph }: Model): string | undefined =>
  graph.inputs.find(({ name }) => typeof inputRole(name, new Map()) === 'object')?.dtype

/** In the layout of transformers.js: the files, and how to ask for them. */
function hubNotes({ path, hub }: OutputPlan, files: readonly string[], copied: readonly string[]): string[] {
  if (!hub) return []
  const home = homeOf(path)
  const loads = `transformers.js loads ${files.map(fromHome).join(' and ')} from ${home} with ${hubOptions(hub)}`
  const hasConfig = copied.includes('config.json') || statsOf(join(home, 'config.json'))
  return hasConfig ? [loads] : [loads, `transformers.js also needs the config.json of the checkpoint in ${home}`]
}

/** A data file of the model that is replaced may be another model's as well: it is not ours to remove. */
const leftOver = (dataPath: string, files: readonly string[]): string[] =>
  files.includes(dataPath) || !statsOf(dataPath)
    ? []
    : [`${basename(dataPath)} was there before; the output has its weights inside and does not need it`]
