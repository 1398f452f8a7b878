/**
 * @file Reports -> text for people. Pure: prints nothing.
 *
 * With --json stdout carries one document instead, whose fields are stable (sizes in bytes, times in ms, null for a number
 * that is not finite): `quantize` QuantizeReport of quant/terms/report.ts and, with --evaluate, `evaluation`, an EvaluateReport;
 * `inspect` InspectReport of quant/inspect.ts; `evaluate` EvaluateReport of quant/evaluate.ts; `generate` GenerateReport of quant/terms/generate-options.ts. A command that fails
 * prints {"error": {"code", "message", "hint"}}; when a limit is passed the report is there too.
 */

import { printableLine } from '../printable.ts'
import type { EvaluateReport } from '../quant/evaluate.ts'
import type { InspectedBlock, InspectedPort, InspectReport } from '../quant/inspected.ts'
import type { EmbeddingReport, QuantizeReport, SkippedReport } from '../quant/terms/report.ts'
import { formatEvaluation } from './format-evaluation.ts'
import { kernelLines, runtimeText } from './format-kernels.ts'
import { formatBytes, formatCount, formatDuration, formatLoss } from './format-numbers.ts'
import { nameRange, noteLines, paragraphs, table, withoutNumber } from './table.ts'

/** "+1.2 %", "-34.0 %" */
function formatChange(after: number, before: number): string {
  const percent = (after / before - 1) * 100
  return Number.isFinite(percent) ? `${percent < 0 ? '' : '+'}${percent.toFixed(1)} %` : ''
}

/** Reasons once each, with the nodes they hold for. */
function skippedLines(skipped: readonly SkippedReport[]): string {
  if (skipped.length === 0) return ''
  const nodes = new Map<string, string[]>()
  for (const { node, reason } of skipped) nodes.set(reason, [...(nodes.get(reason) ?? []), node])
  const lines = [...nodes].map(([reason, names]) => {
    const more = names.length > 3 ? ` and ${names.length - 3} more` : ''
    return `  ${names.slice(0, 3).join(', ')}${more}: ${reason}`
  })
  return ['not quantized', ...lines.map(printableLine)].join('\n')
}

/** A line for each weight that was quantized outside the blocks. */
function outerLines(outer: readonly EmbeddingReport[]): string {
  return outer
    .map(({ role, name, bits, group, vocabSize, hiddenSize, roundedLoss, learnedLoss }) => {
      const what = role === 'lm_head+embedding' ? 'lm_head and embedding, stored once' : role
      const loss = learnedLoss === undefined ? '' : `, loss ${formatLoss(roundedLoss!)} -> ${formatLoss(learnedLoss)}`
      return printableLine(`${what}: ${name}, ${hiddenSize} x ${vocabSize}, ${bits} bits in groups of ${group}${loss}`)
    })
    .join('\n')
}

const times = (count: number): string => (count === 1 ? 'once' : `${count} times`)

export function formatQuantized(report: QuantizeReport, evaluation: EvaluateReport | undefined): string {
  const { blocks, sizeBefore, sizeAfter, onnxruntime } = report
  const facts = [
    ['model', report.model, formatBytes(sizeBefore)],
    ['output', report.output, `${formatBytes(sizeAfter)} (${((sizeAfter / sizeBefore) * 100).toFixed(0)} %)`],
    ['scheme', `${report.scheme} for ${report.target}`, ''],
    ...(onnxruntime ? [['needs', runtimeText(onnxruntime), '']] : []),
    ['time', formatDuration(report.elapsedMs), ''],
  ]
  const learned = blocks.some(block => block.kept !== undefined)
  const rows = blocks.map(({ index, linears, roundedLoss, learnedLoss, kept, rollbacks, elapsedMs }) => [
    String(index),
    String(linears.length),
    ...(learned
      ? [
          roundedLoss === undefined ? '' : formatLoss(roundedLoss),
          learnedLoss === undefined ? '' : formatLoss(learnedLoss),
          roundedLoss === undefined || learnedLoss === undefined ? '' : formatChange(learnedLoss, roundedLoss),
        ]
      : []),
    formatDuration(elapsedMs),
    [
      rollbacks === undefined ? '' : `diverged ${times(rollbacks.length)}: rolled back, learning rate halved`,
      kept === 'rounded' ? 'kept rounded' : '',
    ]
      .filter(remark => remark !== '')
      .join('; '),
  ])
  const head = ['block', 'linears', ...(learned ? ['rounded', 'learned', 'change'] : []), 'time', '']
  return paragraphs(
    table(facts),
    table([head, ...rows], [0, 1, 2, 3, 4, 5].slice(0, head.length - 1)),
    outerLines(report.outer),
    skippedLines(report.skipped),
    noteLines(report.notes),
    evaluation ? formatEvaluation(evaluation, ['quantized', 'float']) : '',
  )
}

/** Block numbers in names and reasons, not sizes. */
const withoutNumbers = (text: string): string => text.replace(/(?<=[./])\d+(?=[./])/g, '#')

/** Caches of all layers in one row. */
function portRows(label: string, ports: readonly InspectedPort[]): string[][] {
  const groups = new Map<string, { first: InspectedPort; last: InspectedPort }>()
  for (const port of ports) {
    const key = JSON.stringify({ ...port, name: withoutNumber(port.name) })
    groups.set(key, { first: groups.get(key)?.first ?? port, last: port })
  }
  return [...groups.values()].map(({ first: { name, dtype, shape }, last }, i) => [
    i === 0 ? label : '',
    nameRange(name, last.name),
    dtype ?? '?',
    shape ? `[${shape.map(dim => dim ?? '?').join(', ')}]` : '?',
  ])
}

/** "lm_head  lm_head  64 x 320  float32, 82 kB" */
function outerRows(outer: InspectReport['outer']): string[][] {
  return outer.map(({ role, name, hiddenSize, vocabSize, dtype, sizeBytes, tied }) => [
    role,
    name,
    `${hiddenSize} x ${vocabSize}`,
    dtype,
    formatBytes(sizeBytes),
    tied ? 'tied: one tensor' : '',
  ])
}

/** First and last of each run of blocks of the same make. */
function groupAlike(
  blocks: readonly InspectedBlock[],
  make: (block: InspectedBlock) => string,
): { first: InspectedBlock; last: InspectedBlock }[] {
  const groups: { first: InspectedBlock; last: InspectedBlock }[] = []
  for (const block of blocks) {
    const group = groups.at(-1)
    if (group && make(group.last) === make(block)) group.last = block
    else groups.push({ first: block, last: block })
  }
  return groups
}

/** Blocks of the same make that follow each other are shown once: a model has up to a hundred. */
function linearRows(blocks: readonly InspectedBlock[]): string[][] {
  const make = ({ linears }: InspectedBlock): string =>
    JSON.stringify(linears.map(linear => ({ ...linear, name: withoutNumber(linear.name) })))
  return groupAlike(blocks, make).flatMap(({ first, last }) =>
    first.linears.map(({ name, inFeatures, outFeatures, dtype, note }, i) => [
      i > 0 ? '' : first === last ? String(first.index) : `${first.index}-${last.index}`,
      nameRange(name, last.linears[i]!.name),
      `${inFeatures} x ${outFeatures}`,
      dtype,
      note ?? '',
    ]),
  )
}

/** Transformations of each block; those of blocks that have the same are shown once. */
function mappingRows(blocks: readonly InspectedBlock[]): string[][] {
  const make = ({ mappings }: InspectedBlock): string => withoutNumbers(JSON.stringify(mappings))
  return groupAlike(blocks, make).flatMap(({ first, last }) =>
    first.mappings.map(({ name, size, shift, reason }, i) => [
      i > 0 ? '' : first === last ? String(first.index) : `${first.index}-${last.index}`,
      nameRange(name, last.mappings[i]!.name),
      size === undefined ? '' : String(size),
      reason ? `not possible: ${reason}` : shift ? 'with shift' : '',
    ]),
  )
}

/** Weights that are stored for nothing, in one row. */
function unusedRow(unused: InspectReport['unused']): string[][] {
  if (unused.length === 0) return []
  const size = formatBytes(unused.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0))
  const names = unused.slice(0, 3).map(({ name }) => name)
  const more = unused.length > 3 ? ` and ${unused.length - 3} more` : ''
  const count = unused.length === 1 ? '1 weight' : `${unused.length} weights`
  return [['unused', `${count}, ${size}: no path leads to the logits from ${names.join(', ')}${more}`]]
}

export function formatInspection(report: InspectReport): string {
  const { types, opsets, blocks, problem, vocabSize, maxPositions } = report
  const facts = [
    ['model', report.model],
    ...report.files.filter(file => file !== report.model).map(file => ['data', file]),
    ['size', formatBytes(report.sizeBytes)],
    ['producer', report.producer === '' ? 'unknown' : report.producer],
    ['format', `IR ${report.irVersion}, opset ${opsets.map(o => `${o.domain || 'ai.onnx'} ${o.version}`).join(', ')}`],
    ['nodes', String(report.nodes)],
    ['parameters', formatCount(report.parameters)],
    ['stored as', types.map(type => `${type.dtype} ${formatBytes(type.sizeBytes)}`).join(', ')],
    ...unusedRow(report.unused),
    ...(vocabSize === undefined ? [] : [['vocabulary', String(vocabSize)]]),
    ...(maxPositions === undefined ? [] : [['positions', String(maxPositions)]]),
  ]
  const ports = [...portRows('inputs', report.inputs), ...portRows('outputs', report.outputs)]
  const linears = linearRows(blocks)
  const mappings = mappingRows(blocks)
  const estimates = report.estimates.map(({ scheme, sizeBytes }) => [
    scheme,
    formatBytes(sizeBytes),
    `${((sizeBytes / report.sizeBytes) * 100).toFixed(0)} %`,
  ])
  return paragraphs(
    table(facts),
    table(ports),
    linears.length === 0 ? '' : table([['block', 'linear', 'K x N', 'stored', ''], ...linears], [0, 2]),
    mappings.length === 0 ? '' : table([['block', 'transformation', 'scales', ''], ...mappings], [0, 2]),
    report.outer.length === 0
      ? ''
      : `outside the blocks, float unless asked for (--embedding, --lm-head)\n${table(outerRows(report.outer), [2, 4]).replace(/^/gm, '  ')}`,
    skippedLines(report.skipped),
    report.kernels ? kernelLines(report.kernels) : '',
    estimates.length === 0 ? '' : `estimated output\n${table(estimates, [1, 2]).replace(/^/gm, '  ')}`,
    problem ? `cannot be quantized (${problem.code}): ${problem.message}` : '',
  )
}
