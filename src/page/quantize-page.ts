/** @file Page about a run of `quantize`. */

import type { QuantizeResult } from '../engine/messages.ts'
import { blockErrors, lossCurves, meanLeft, timeAndMemory } from './block-plots.ts'
import { comparisonTable } from './evaluation-plots.ts'
import { type About, commandOf, madeBy, softwareFacts } from './about.ts'
import { documentOf } from './document.ts'
import { type Content, markup } from './html.ts'
import { clipRatios, letScales, linearErrors } from './linear-plots.ts'
import { modelName } from './names.ts'
import { bytes, counted, duration, figure as number, percent } from './numbers.ts'
import { details, facts, type Section, table, type Tile, tiles } from './parts.ts'

/** Scheme in words: "2-bit weights in groups of 64, float activations". */
function schemeWords(scheme: string): string {
  const match = /^w(\d+)a(\d+)(?:g(\d+))?/.exec(scheme)
  if (!match) return scheme
  const [, weights, activations, group] = match
  return (
    `${weights}-bit weights ` +
    (group ? `in groups of ${group}` : 'with one scale per output') +
    (activations === '16' ? '' : `, ${activations}-bit activations`)
  )
}

/** Perplexities of both models, where they were measured. */
function perplexities(
  report: QuantizeResult,
): { quantized: number; float: number | undefined; on: string } | undefined {
  const { evaluation } = report
  if (evaluation)
    return { quantized: evaluation.perplexity, float: evaluation.against?.perplexity, on: modelName(evaluation.text) }
  const { check } = report
  return 'skipped' in check ? undefined : { ...check, on: 'held-out calibration text' }
}

function calibrationFacts(report: QuantizeResult): (readonly [string, Content])[] {
  const { calibration, seed } = report
  if (!calibration) return [['Seed', seed]]
  const { file = 'text that the model wrote itself', samples, seqLen, digest } = calibration
  return [
    ['Calibration', `${file}, ${counted(samples, 'sample')} of ${seqLen} tokens`],
    ['Digest of its tokens', digest !== undefined && markup`<code>${digest}</code>`],
    ['Seed', seed],
  ]
}

/** Largest resident set of all blocks. */
const peakOf = ({ blocks }: QuantizeResult): number | undefined => {
  const known = blocks.flatMap(({ peakMemoryBytes }) => peakMemoryBytes ?? [])
  return known.length === 0 ? undefined : Math.max(...known)
}

function tilesOf(report: QuantizeResult): Tile[] {
  const { sizeBefore, sizeAfter, elapsedMs, blocks } = report
  const perplexity = perplexities(report)
  const left = meanLeft(blocks)
  const peak = peakOf(report)
  return [
    { name: 'Size', value: bytes(sizeAfter), note: `from ${bytes(sizeBefore)}` },
    ...(perplexity
      ? [
          {
            name: 'Perplexity',
            value: number(perplexity.quantized),
            note: [perplexity.float !== undefined && `float: ${number(perplexity.float)}, `, `on ${perplexity.on}`],
          },
        ]
      : []),
    ...(left === undefined
      ? []
      : [{ name: 'Error left', value: percent(left), note: 'of rounding to nearest, mean over blocks' }]),
    { name: 'Time', value: duration(elapsedMs), note: counted(blocks.length, 'block') },
    ...(peak === undefined ? [] : [{ name: 'Peak memory', value: bytes(peak), note: 'of the process that learned' }]),
  ]
}

function leadOf(report: QuantizeResult): Content {
  const { scheme, sizeBefore, sizeAfter, blocks } = report
  const left = meanLeft(blocks)
  const { quantized, float } = perplexities(report) ?? {}
  return [
    `The weights of ${counted(blocks.length, 'block')} are stored as ${schemeWords(scheme)}. The files are ${number(sizeBefore / sizeAfter)} times smaller than before.`,
    left !== undefined && ` Learning left ${percent(left)} of the error of rounding to nearest.`,
    quantized !== undefined &&
      float !== undefined &&
      ` Perplexity is ${number(quantized / float)} times that of the float model.`,
  ]
}

const list = (lines: readonly string[]): Content =>
  markup`<ul class="notes">${lines.map(line => markup`<li>${line}</li>`)}</ul>`

/** Facts about the run. */
function runSection(report: QuantizeResult, about: About): Section {
  const { outer, skipped, notes, files, onnxruntime } = report
  return {
    id: 'run',
    title: 'What was run',
    content: [
      facts([
        ['Command', commandOf(about)],
        ['Model', report.model],
        ['Output', files.map((file, i) => [i > 0 && markup`<br>`, file])],
        ['Scheme', `${report.scheme}: ${schemeWords(report.scheme)}`],
        ['Target', report.target],
        ...calibrationFacts(report),
        ...softwareFacts(report, about),
        ['Runs on', onnxruntime && `onnxruntime ${onnxruntime.least} and later`],
      ]),
      outer.length > 0 && [
        markup`<h3>Outside the blocks</h3>`,
        table('Weights outside the blocks', outer, [
          { name: 'Weight', of: ({ name }) => name, text: true },
          { name: 'Role', of: ({ role }) => role, text: true },
          { name: 'Bits', of: ({ bits }) => bits },
          { name: 'Group', of: ({ group }) => group },
          { name: 'Error, rounded', of: ({ roundedLoss }) => number(roundedLoss) },
          { name: 'Error, learned', of: ({ learnedLoss }) => number(learnedLoss) },
        ]),
      ],
      notes.length > 0 && [markup`<h3>Notes</h3>`, list(notes)],
      skipped.length > 0 &&
        details(
          `${counted(skipped.length, 'product')} left as they are`,
          list(skipped.map(({ node, reason }) => `${node}: ${reason}`)),
        ),
    ],
  }
}

/** The page about a quantized model. */
export function quantizePage(report: QuantizeResult, about: About): string {
  const { blocks, evaluation } = report
  const sections = [
    blockErrors(blocks),
    lossCurves(blocks),
    linearErrors(blocks),
    clipRatios(blocks),
    letScales(blocks),
    timeAndMemory(blocks),
    evaluation && {
      id: 'evaluation',
      title: 'Evaluation',
      says: `Both models on ${evaluation.text}: ${counted(evaluation.windows, 'window')} of ${evaluation.seqLen} tokens.`,
      content: markup`<div class="card">${comparisonTable(evaluation)}</div>`,
    },
    runSection(report, about),
  ]
  return documentOf({
    title: `${modelName(report.model)} in ${report.scheme}`,
    kind: 'omniquant: report of quantize',
    lead: leadOf(report),
    tiles: tiles(tilesOf(report)),
    sections: sections.filter(section => section !== undefined),
    foot: madeBy(about),
  })
}
