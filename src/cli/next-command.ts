/** @file Command to try next, after a model is quantized. Pure. */

import { dirname } from 'node:path'
import type { QuantizeReport } from '../quant/terms/report.ts'

/** An argument as a shell takes it. */
const quoted = (text: string): string => (/^[\w./:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`)

/** Paths of a folder with one model are shown as the folder. */
const shortest = (path: string): string => (path.endsWith('/model.onnx') ? dirname(path) : path)

/** "omniquant evaluate out/ --text FILE --against model/" */
export const nextCommand = ({ model, output }: Pick<QuantizeReport, 'model' | 'output'>): string =>
  `omniquant evaluate ${quoted(shortest(output))} --text FILE --against ${quoted(shortest(model))}`
