/** @file Page about a run of `evaluate`. */

import type { EvaluateResult } from '../engine/messages.ts'
import { type About, commandOf, madeBy, softwareFacts } from './about.ts'
import { documentOf } from './document.ts'
import { type Content, markup } from './html.ts'
import { comparisonTable, rowsOf, sizeAndQuality, speeds } from './evaluation-plots.ts'
import { modelName } from './names.ts'
import { bytes, counted, figure as number, percent } from './numbers.ts'
import { facts, type Tile, tiles } from './parts.ts'

function tilesOf(report: EvaluateResult): Tile[] {
  const { perplexity, against, sizeBytes, divergence, speed } = report
  return [
    { name: 'Perplexity', value: number(perplexity), note: against && `reference: ${number(against.perplexity)}` },
    { name: 'Size', value: bytes(sizeBytes), note: against && `reference: ${bytes(against.sizeBytes)}` },
    ...(divergence
      ? [
          { name: 'KL divergence', value: number(divergence.klMean), note: 'nats per token' },
          { name: 'Same top token', value: percent(divergence.sameTop), note: 'as the reference' },
        ]
      : []),
    ...(speed ? [{ name: 'Decode', value: number(speed.decodeTokensPerSecond), note: 'tokens per second' }] : []),
  ]
}

function leadOf(report: EvaluateResult): Content {
  const { windows, seqLen, tokens, text, against } = report
  return [
    `${counted(rowsOf(report).length, 'model')} on ${text}: ${counted(windows, 'window')} of ${seqLen} tokens, of which ${tokens.toLocaleString('en-US')} are predicted.`,
    against && ` The reference is ${modelName(against.model)}.`,
  ]
}

/** The page about measured models. */
export function evaluatePage(report: EvaluateResult, about: About): string {
  const { others = [], against, notes = [], stride } = report
  const sections = [
    {
      id: 'models',
      title: 'Measurements',
      says: 'Perplexity tells how well a model predicts the text: lower is better. Errors (±) are standard errors over windows.',
      content: markup`<div class="card">${comparisonTable(report)}</div>`,
    },
    sizeAndQuality(report),
    speeds(report),
    {
      id: 'run',
      title: 'What was run',
      content: [
        facts([
          ['Command', commandOf(about)],
          ['Models', [report, ...others].map(({ model }, i) => [i > 0 && markup`<br>`, model])],
          ['Reference', against?.model],
          ['Text', report.text],
          ['Windows', `${report.windows} of ${report.seqLen} tokens, one every ${stride}`],
          ...softwareFacts(report, about),
        ]),
        notes.length > 0 && markup`<h3>Notes</h3><ul class="notes">${notes.map(note => markup`<li>${note}</li>`)}</ul>`,
      ],
    },
  ]
  return documentOf({
    title:
      others.length === 0
        ? modelName(report.model)
        : `${modelName(report.model)} and ${counted(others.length, 'other')}`,
    kind: 'omniquant: report of evaluate',
    lead: leadOf(report),
    tiles: tiles(tilesOf(report)),
    sections: sections.filter(section => section !== undefined),
    foot: madeBy(about),
  })
}
