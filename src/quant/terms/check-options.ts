/** @file Checks of options as they are given: a table of rules, one row per option. Knows no option. */

import { isDeviceChoice } from '../../kernels/device.ts'
import { QuantError, usageError } from '../../errors.ts'
import { option } from '../../option-mark.ts'
import { nearestName } from './nearest-name.ts'

/** Values an option may have. */
export interface Rule {
  readonly holds: (value: unknown) => boolean
  /** Continues "`samples` ...": "takes a whole number from 1 up". */
  readonly says: string
  readonly hint?: string
  /** Values to offer, where there are few or some are usual. */
  readonly values?: readonly (string | number)[]
}

/** One rule for every option: a missing row does not compile. */
export type Rules<Options> = { readonly [Key in keyof Required<Options>]: Rule }

export function wholeNumber(least: number): Rule {
  return {
    holds: value => Number.isSafeInteger(value) && (value as number) >= least,
    says: `takes a whole number${least > 0 ? ` from ${least} up` : ''}`,
  }
}

export const POSITIVE: Rule = {
  holds: value => typeof value === 'number' && Number.isFinite(value) && value > 0,
  says: 'takes a number above 0',
}

export const SHARE: Rule = {
  holds: value => typeof value === 'number' && value >= 0 && value <= 1,
  says: 'is between 0 and 1',
}

export const FLAG: Rule = { holds: value => typeof value === 'boolean', says: 'is true or false' }

export const TEXT: Rule = { holds: value => typeof value === 'string', says: 'takes a text' }

/** "a, b or c". */
const listed = (names: readonly (string | number)[]): string => `${names.slice(0, -1).join(', ')} or ${names.at(-1)}`

export function oneOf(names: readonly (string | number)[], hint?: string): Rule {
  return {
    holds: value => names.some(name => name === value),
    says: `is ${listed(names)}`,
    values: names,
    ...(hint && { hint }),
  }
}

export function bitsOrFloat(choices: readonly number[]): Rule {
  return { ...oneOf([...choices, 'float']), says: `takes ${listed(choices)} bits, or float` }
}

/** Devices of onnxruntime. */
export const DEVICE: Rule = {
  holds: isDeviceChoice,
  says: 'is auto, cpu, cuda, cuda:1 (or another number) or webgpu',
  values: ['auto', 'cpu', 'cuda', 'webgpu'],
}

/** @param holds for each element. @param says what the list holds, as in "takes a list of ...". */
export function listOf(holds: (value: unknown) => boolean, says: string): Rule {
  return { holds: value => Array.isArray(value) && value.every(holds), says: `takes a list of ${says}` }
}

/** A value as it was given, for messages. */
const shown = (value: unknown): string =>
  typeof value === 'object' || typeof value === 'function' ? `a value of type ${typeof value}` : `"${String(value)}"`

/**
 * Refuses options that do not exist, required ones that are missing, and values that no rule allows. An option that is undefined counts as not given.
 * @throws E_USAGE with the key of the option.
 */
export function checkOptions<Options extends object>(
  given: Options,
  rules: Rules<Options>,
  required: readonly (keyof Options & string)[],
): void {
  if (typeof given !== 'object' || given === null)
    throw usageError('options are an object', `For example { ${required.map(key => `${key}: ...`).join(', ')} }.`)
  for (const [key, value] of Object.entries(given)) {
    const rule = Object.hasOwn(rules, key) ? rules[key as keyof Options] : undefined
    if (rule === undefined) {
      const near = nearestName(key, Object.keys(rules))
      const hint = `${near === undefined ? '' : `Did you mean ${near}? `}There are ${Object.keys(rules).join(', ')}.`
      throw new QuantError('E_USAGE', `there is no option "${key}"`, hint, { option: key })
    }
    if (value !== undefined && !rule.holds(value))
      throw usageError(`${option(key)} ${rule.says}, not ${shown(value)}`, rule.hint, key)
  }
  for (const key of required)
    if (given[key] === undefined) throw usageError(`the option ${option(key)} is missing`, undefined, key)
}
