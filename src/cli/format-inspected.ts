/** @file A quantized file, and a run that is foretold -> text for people. Pure. */

import { printableLine } from '../printable.ts'
import type { DryRun, InspectedQuantized } from '../quant/inspected.ts'
import { formatBytes, formatCount, formatDuration } from './format-numbers.ts'
import { noteLines, table } from './table.ts'

/** Bits, groups and origin of a quantized file. */
export function quantizedLines({
  groups,
  weights,
  bitsPerWeight,
  fileBitsPerWeight,
  provenance = {},
}: InspectedQuantized): string {
  const rows = groups.map(group => [
    group.op,
    String(group.count),
    `${group.bits} bits`,
    group.group === undefined ? 'one scale per output' : `groups of ${group.group}`,
    group.zeroPoints ? 'zero points' : 'symmetric',
    `${formatCount(group.weights)} weights`,
  ])
  const total =
    weights === 0
      ? []
      : [
          `${bitsPerWeight} bits for each quantized weight with scales and zero points, ${fileBitsPerWeight} with the whole file`,
        ]
  const origin = Object.entries(provenance).map(([name, value]) => [name.replaceAll('_', ' '), value])
  return [
    `quantized${origin.length === 0 ? '' : ' by omniquant'}`,
    ...[table(rows, [1]), ...total, table(origin)].filter(text => text !== '').map(text => text.replace(/^/gm, '  ')),
  ].join('\n')
}

/** Size, memory, disk and time of a run. */
export function dryRunLines(run: DryRun): string {
  const { storage, calibration, learned, epochs, blocksMs } = run
  const { bits, storedBits, bitsPerQuantizedWeight, bitsPerParameter } = storage
  const learning = learned.length === 0 ? 'nothing, weights are rounded' : `${learned.join(', ')}, ${epochs} epochs`
  const facts = [
    ['size', `about ${formatBytes(run.sizeAfter)}`],
    [
      'bits',
      `${bits}${bits === storedBits ? '' : ` stored in ${storedBits}`}; ${bitsPerQuantizedWeight} for each quantized weight, ${bitsPerParameter} for each number of the model`,
    ],
    ['learning', learning],
    ...(calibration ? [['calibration', `${calibration.samples} samples of ${calibration.seqLen} tokens`]] : []),
    ['memory', `about ${formatBytes(run.memoryBytes)}`],
    ['disk', `${formatBytes(run.diskBytes)} while it works, with the output`],
    ...(blocksMs === undefined
      ? []
      : [['time', `about ${formatDuration(blocksMs)} for the blocks on ${run.threads} threads of the CPU here`]]),
  ]
  return [
    printableLine(`a run with ${run.scheme} for ${run.target} would take`),
    table(facts).replace(/^/gm, '  '),
    ...[noteLines(run.notes), ...run.advice.map(text => printableLine(`advice: ${text}`))].filter(text => text !== ''),
  ].join('\n')
}
