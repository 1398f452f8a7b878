/** @file Report of a run as a page for people: one HTML file, with its plots in it, that asks nobody for anything. */

import type { EvaluateResult, QuantizeResult } from '../engine/messages.ts'
import type { About } from './about.ts'
import { evaluatePage } from './evaluate-page.ts'
import { quantizePage } from './quantize-page.ts'

/**
 * The text of an HTML file about a report of `quantize` or `evaluate`. It has no script and asks for no other file. The same report gives
 * the same text, with the same version of omniquant.
 */
export const reportPage = (report: QuantizeResult | EvaluateResult, about: About = {}): string =>
  'blocks' in report ? quantizePage(report, about) : evaluatePage(report, about)
