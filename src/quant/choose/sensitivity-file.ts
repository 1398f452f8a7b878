/** @file Sensitivities as a JSON file. */

import { existsSync } from 'node:fs'
import { messageOf, QuantError } from '../../errors.ts'
import { writeAtomically } from '../../files/atomic-file.ts'
import { readBounded } from '../../files/bounded-file.ts'
import { diskError } from '../../files/disk-errors.ts'
import { option } from '../../option-mark.ts'
import { type Candidate, type LinearSensitivity, SENSITIVITY_FORMAT, type Sensitivities } from '../terms/sensitivity.ts'
import type { CandidateLinear } from './candidates.ts'

/** Some hundred bytes for each candidate of the largest models. */
const MAX_BYTES = 256 * 2 ** 20

const useless = (path: string, why: string): QuantError =>
  new QuantError(
    'E_PARAMETERS',
    `${path} cannot be used as sensitivities: ${why}`,
    `Remove the file, or name another one with ${option('sensitivity')}: they are measured anew and written there.`,
    { option: 'sensitivity' },
  )

const isAmount = (value: unknown): value is number => typeof value === 'number' && Number.isFinite(value) && value >= 0

const isCandidate = (value: unknown): value is Candidate => {
  if (typeof value !== 'object' || value === null) return false
  const { bits, group, symmetric, sizeBytes, error, kl } = value as Partial<Record<keyof Candidate, unknown>>
  return [bits, group, sizeBytes, error, kl].every(isAmount) && typeof symmetric === 'boolean'
}

const isLinear = (value: unknown): value is LinearSensitivity => {
  if (typeof value !== 'object' || value === null) return false
  const { name, candidates } = value as Partial<Record<keyof LinearSensitivity, unknown>>
  return typeof name === 'string' && Array.isArray(candidates) && candidates.every(isCandidate)
}

/** Reads the file. @returns undefined where there is none. @throws E_PARAMETERS when it holds something else. */
export function readSensitivities(path: string): Sensitivities | undefined {
  if (!existsSync(path)) return undefined
  let content: unknown
  try {
    content = JSON.parse(Buffer.from(readBounded(path, MAX_BYTES)).toString('utf8'))
  } catch (error) {
    throw useless(path, messageOf(error))
  }
  const { format, tokens, linears } = (content ?? {}) as Partial<Record<keyof Sensitivities, unknown>>
  if (format !== SENSITIVITY_FORMAT) throw useless(path, `it does not say "format": "${SENSITIVITY_FORMAT}"`)
  if (!isAmount(tokens) || !Array.isArray(linears) || !linears.every(isLinear))
    throw useless(path, 'it is damaged, or was changed by hand')
  return content as Sensitivities
}

/** @throws E_OUTPUT */
export function writeSensitivities(path: string, sensitivities: Sensitivities): void {
  try {
    writeAtomically(path, Buffer.from(`${JSON.stringify(sensitivities, null, 1)}\n`))
  } catch (error) {
    throw diskError(`cannot write ${path}`, error)
  }
}

const text = ({ bits, group, symmetric }: Pick<Candidate, 'bits' | 'group' | 'symmetric'>): string =>
  `w${bits}g${group}${symmetric ? 'sym' : ''}`

/**
 * The table with the sizes that candidates have in this run.
 * @throws E_PARAMETERS when it was measured on other weights or for other candidates.
 */
export function fitted(path: string, table: Sensitivities, linears: readonly CandidateLinear[]): Sensitivities {
  const names = new Set(linears.map(({ linear }) => linear.name))
  const strange = table.linears.find(({ name }) => !names.has(name))
  if (strange) throw useless(path, `this run quantizes no "${strange.name}"`)
  return {
    ...table,
    linears: linears.map(({ linear, candidates }, i) => {
      const { name, inFeatures, outFeatures } = linear
      const measured = table.linears[i]
      if (measured?.name !== name) throw useless(path, `"${name}" is not at its place in it`)
      if (measured.inFeatures !== inFeatures || measured.outFeatures !== outFeatures)
        throw useless(
          path,
          `"${name}" is ${measured.inFeatures} x ${measured.outFeatures} there, and ${inFeatures} x ${outFeatures} in the model`,
        )
      const fittedCandidates = candidates.map(({ quantizer, sizeBytes }): Candidate => {
        const wanted = text({ ...quantizer, group: Math.min(quantizer.group, inFeatures) })
        const found = measured.candidates.find(each => text(each) === wanted)
        if (!found) throw useless(path, `"${name}" was not measured as ${wanted}`)
        return { ...found, sizeBytes }
      })
      return { ...measured, candidates: fittedCandidates }
    }),
  }
}
