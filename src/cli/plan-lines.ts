/** @file Plan of a run -> lines that are told before it begins. Pure. */

import type { RunPlan } from '../quant/terms/report.ts'
import { formatBytes } from './format-numbers.ts'

/** "clipping, rounding and transformations" */
const listed = (names: readonly string[]): string =>
  names.length < 2 ? names.join('') : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`

const epochsText = (epochs: number): string => (epochs === 1 ? '1 epoch' : `${epochs} epochs`)

function calibrationText({ calibration }: RunPlan): string {
  if (!calibration) return 'none, nothing is learned from text'
  const { file, samples, seqLen } = calibration
  return `${file ?? 'text that the model writes'}, ${samples} samples of ${seqLen} tokens`
}

function schemeText({ scheme, target, storage, sizeBefore, sizeAfter }: RunPlan): string {
  const { bits, storedBits, bitsPerQuantizedWeight } = storage
  const stored = bits === storedBits ? '' : `, ${bits} bits stored in ${storedBits}`
  const share = Math.round((100 * sizeAfter) / sizeBefore)
  return `${scheme} for ${target}${stored}, about ${formatBytes(sizeAfter)} (${share} %), ${bitsPerQuantizedWeight} bits a quantized weight`
}

/** Lines "name: text", one for each fact and note. */
export function planLines(plan: RunPlan): string[] {
  const { model, sizeBefore, linears, blocks, output, learned, epochs, threads, notes } = plan
  const learning = learned.length === 0 ? 'nothing, weights are rounded' : `${listed(learned)}, ${epochsText(epochs)}`
  return [
    `model: ${model} (${formatBytes(sizeBefore)}, ${linears} linears in ${blocks} blocks)`,
    `scheme: ${schemeText(plan)}`,
    `output: ${output}`,
    `calibration: ${calibrationText(plan)}`,
    `learning: ${learning}, on ${threads} ${threads === 1 ? 'thread' : 'threads'}`,
    ...notes.map(note => `note: ${note}`),
  ]
}
