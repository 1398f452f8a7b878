/** @file Files beside a model that the output needs too: tokenizer, configuration, templates. */

import { accessSync, constants, lstatSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { messageOf, QuantError } from '../../errors.ts'
import { copyInto, sameContent } from '../../files/copy-file.ts'
import { diskError } from '../../files/disk-errors.ts'
import type { FileSet } from '../../files/file-set.ts'
import { statsOf } from '../../files/names.ts'
import { belongsToModel } from '../../graph/onnx-file/external-data.ts'
import { adaptCompanion, adviceFor, isAdapted, type Renamed, sayTheSame } from './companions.ts'
import { isCompanion, mayDescribeModel } from './companion-names.ts'
import { fromHome, homeOf, isHubFolder, type OutputPlan } from './paths.ts'

/** Names that a message lists. */
const LISTED = 5

const listOf = (names: readonly string[]): string =>
  names.slice(0, LISTED).join(', ') + (names.length > LISTED ? ` and ${names.length - LISTED} more` : '')

interface Companion {
  readonly name: string
  /** File it is read from, links resolved. */
  readonly file: string
}

interface CompanionPlan {
  /** Folder they go to. */
  readonly folder: string
  readonly missing: readonly Companion[]
  /** Names of those that are there already. */
  readonly kept: readonly string[]
  readonly notes: readonly string[]
}

/** Companions of the source; links count by where they lead, and may not lead out of the model's folder. */
function findCompanions(folder: string, model: string): { companions: Companion[]; notes: string[] } {
  const companions: Companion[] = []
  const notes: string[] = []
  const realModel = realpathSync(model)
  const unknown: string[] = []
  for (const name of readdirSync(folder).filter(mayDescribeModel)) {
    const path = join(folder, name)
    // What is no file, or a link that leads nowhere, describes no model.
    if (!statSync(path, { throwIfNoEntry: false })?.isFile()) continue
    if (!isCompanion(name)) {
      unknown.push(name)
      continue
    }
    const file = realpathSync(path)
    if (belongsToModel(file, folder, realModel)) companions.push({ name, file })
    else notes.push(`${name} is a link that leads out of the folder of the model, to ${file}: it was not copied`)
  }
  if (unknown.length > 0)
    notes.push(`not copied, because no client is known to read them beside an ONNX file: ${listOf(unknown)}`)
  return { companions, notes }
}

/** True where the file that has a companion's name in the output's folder can stay beside the output. */
function isSame(target: string, { name, file }: Companion): boolean {
  if (!statSync(target, { throwIfNoEntry: false })?.isFile()) return false
  const there = realpathSync(target)
  return (
    sameContent(there, file) ||
    (isAdapted(name) && sayTheSame(name, readFileSync(there, 'utf8'), readFileSync(file, 'utf8')))
  )
}

/** @throws E_FILE_NOT_FOUND for a file that could not be copied at the end. */
function checkReadable({ file }: Companion): void {
  try {
    accessSync(file, constants.R_OK)
  } catch (error) {
    throw new QuantError(
      'E_FILE_NOT_FOUND',
      `${file} belongs to the model and cannot be read: ${messageOf(error)}`,
      'Check its permissions.',
    )
  }
}

function planCompanions({ path, source }: OutputPlan): CompanionPlan {
  const [from, folder] = [homeOf(resolve(source)), homeOf(resolve(path))]
  if (from === folder)
    return { folder, missing: [], kept: isHubFolder(dirname(path)) ? ['config.json'] : [], notes: [] }
  const { companions, notes } = findCompanions(from, source)
  const isThere = ({ name }: Companion) => lstatSync(join(folder, name), { throwIfNoEntry: false }) !== undefined
  const there = companions.filter(isThere)
  const others = there.filter(companion => !isSame(join(folder, companion.name), companion))
  if (others.length > 0) {
    const list = listOf(others.map(({ name }) => name))
    throw new QuantError(
      'E_OUTPUT',
      `${folder} holds files of another model, or changed ones, where those of this model should go: ${list}`,
      'Choose an empty folder with -o, or move these files away.',
    )
  }
  const missing = companions.filter(companion => !there.includes(companion))
  missing.forEach(checkReadable)
  return { folder, missing, kept: there.map(({ name }) => name), notes }
}

function explained<T>(plan: OutputPlan, action: () => T): T {
  try {
    return action()
  } catch (error) {
    throw diskError(`cannot copy tokenizer and configuration to ${homeOf(resolve(plan.path))}`, error)
  }
}

/** Refuses a folder with a tokenizer or configuration that says something else than the model's. @throws E_OUTPUT */
export const checkCompanions = (plan: OutputPlan): void => void explained(plan, () => planCompanions(plan))

/**
 * Writes what lies beside the model, and is not beside the output yet, as part of the output. What it says of the model file is made
 * true of the output.
 * @param files paths of the output, then of its data file if it has one.
 * @param facts type of its cache, if it has one, and the section about its quantization.
 * @returns names of the files, and what else the user should know. @throws E_OUTPUT
 */
export function writeCompanions(
  set: FileSet,
  plan: OutputPlan,
  files: readonly string[],
  facts: Pick<Renamed, 'cacheType' | 'quantization'> = {},
): { readonly copied: readonly string[]; readonly notes: readonly string[] } {
  return explained(plan, () => {
    const { folder, missing, kept, notes } = planCompanions(plan)
    const { path, source, hub } = plan
    const after = fromHome(path)
    const renamed = { before: fromHome(source), after, files: files.map(file => basename(file)), hub, ...facts }
    const unread = missing.flatMap(companion => writeCompanion(set, folder, companion, renamed))
    const wrong = kept.flatMap(name => {
      const advice = adviceOf(join(folder, name), renamed)
      return advice === undefined
        ? []
        : [`${join(folder, name)} was there before and is wrong about ${after}: ${advice}`]
    })
    return { copied: missing.map(({ name }) => name), notes: [...notes, ...unread, ...wrong] }
  })
}

/** @returns a note, where there is one. */
function writeCompanion(set: FileSet, folder: string, { name, file }: Companion, renamed: Renamed): string[] {
  const target = set.add(join(folder, name), false)
  let adapted: string | undefined
  let notes: string[] = []
  try {
    if (isAdapted(name)) adapted = adaptCompanion(name, readFileSync(file, 'utf8'), renamed)
  } catch (error) {
    // What is no JSON, or nested deeper than the stack: hours of work do not end for that.
    if (!(error instanceof SyntaxError || error instanceof RangeError)) throw error
    notes = [`${name} is not JSON that could be read: copied as it is`]
  }
  if (adapted === undefined) copyInto(target, file)
  else target.write(Buffer.from(adapted))
  return notes
}

/** A configuration that was there before the output is the user's: what it says wrong of the output is said, not changed. */
function adviceOf(path: string, renamed: Renamed): string | undefined {
  // A pipe would never end.
  if (!statsOf(path)?.isFile()) return undefined
  try {
    return adviceFor(basename(path), readFileSync(path, 'utf8'), renamed)
  } catch {
    return undefined // It was no JSON before either.
  }
}
