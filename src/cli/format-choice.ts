/** @file Bits that a run chose -> text for people. */

import type { QuantizeReport } from '../quant/terms/report.ts'
import { weightOverrideName } from '../quant/terms/scheme.ts'
import type { Candidate, ChoiceReport, LinearSensitivity } from '../quant/terms/sensitivity.ts'
import { formatBytes } from './format-numbers.ts'
import { table } from './table.ts'

/** "w4g32sym"; "w4" with one scale per output. */
const candidateName = ({ inFeatures }: LinearSensitivity, { bits, group, symmetric }: Candidate): string =>
  weightOverrideName({ bits, symmetric, ...(group < inFeatures && { group }) })

/** Weights of each scheme in one line: "12 x w2g64, 16 x w4g32". */
function summary(chosen: readonly string[]): string {
  const counts = new Map<string, number>()
  for (const name of chosen) counts.set(name, (counts.get(name) ?? 0) + 1)
  return [...counts].map(([name, count]) => `${count} x ${name}`).join(', ')
}

/** "*w2g64 112 kB, 5.9e-3, 1.2e-3" for each candidate; the chosen one is marked. */
function sensitivityRows({ sensitivities, chosen }: ChoiceReport): string[][] {
  return sensitivities.linears.map((linear, i) => [
    linear.name,
    ...linear.candidates.map((candidate, j) => {
      const { sizeBytes, error, kl } = candidate
      const costs = `${formatBytes(sizeBytes)}, ${error.toExponential(1)}, ${kl.toExponential(1)}`
      return `${chosen[i] === j ? '*' : ' '}${candidateName(linear, candidate)} ${costs}`
    }),
  ])
}

const divergence = (kl: number): string => kl.toPrecision(3)

/** The choice in some lines; for a dry run with the whole table. */
export function choiceLines({ choice, files }: QuantizeReport): string {
  if (!choice) return ''
  const { maxSize, maxKl, plannedBytes, predictedKl, measuredKl, measuredTokens, chosen, sensitivities } = choice
  const facts = [
    ['bits', summary(sensitivities.linears.map((linear, i) => candidateName(linear, linear.candidates[chosen[i]!]!)))],
    ...(maxSize === undefined
      ? []
      : [['size', `at most ${formatBytes(maxSize)}, planned ${formatBytes(plannedBytes)}`]]),
    [
      'divergence',
      [
        ...(maxKl === undefined ? [] : [`at most ${maxKl}`]),
        `predicted ${divergence(predictedKl)}`,
        ...(measuredKl === undefined ? [] : [`measured ${divergence(measuredKl)} on ${measuredTokens} tokens`]),
      ].join(', '),
    ],
  ]
  if (files.length > 0) return table(facts)
  const head = `candidates: size, error of the output, divergence; * is chosen (${sensitivities.tokens} tokens)`
  return `${head}\n${table(sensitivityRows(choice))}\n\n${table(facts)}`
}
