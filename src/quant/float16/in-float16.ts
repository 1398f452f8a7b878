/** @file --float16 on an analyzed model: refuses what is neither float32 nor float16, and converts the user's graph. */

import { option } from '../../option-mark.ts'
import { QuantError } from '../../errors.ts'
import { floatTypeOf } from '../../graph/float-type.ts'
import type { Analysis } from '../find/analysis.ts'
import { toFloat16 } from './to-float16.ts'

export interface Float16Model {
  readonly analysis: Analysis
  /** Notes for the user. */
  readonly notes: readonly string[]
}

/**
 * Makes the user's graph of an analysis a float16 model, in place. The working copy stays float32: what is learned from it is
 * stored in the types that the graph has afterwards. A model whose linears are float16 stays as it is.
 * @throws E_UNSUPPORTED for bfloat16 and float64 models.
 */
export function inFloat16(analysis: Analysis): Float16Model {
  const { model, blocks, values } = analysis
  const types = new Set(blocks.flatMap(({ linears }) => linears.map(({ origin }) => floatTypeOf(origin.inputs[1]!))))
  const other = [...types].find(type => type !== 'float32' && type !== 'float16')
  if (other)
    throw new QuantError(
      'E_UNSUPPORTED',
      `${option('float16')}: the model computes in ${other}`,
      'Export it as float32 or float16: only float32 is converted.',
    )
  if (!types.has('float32')) return { analysis, notes: [`${option('float16')}: the model is float16 already`] }
  const ports = [...model.graph.inputs, ...model.graph.outputs].filter(
    ({ dtype, tensor }) => dtype === 'float32' && !tensor,
  )
  const copies = toFloat16(model)
  // A constant behind a new Cast is still the constant that the working copy knows.
  const known = [...copies].flatMap(([cast, constant]) => {
    const copy = values.get(constant)
    return copy ? [[cast, copy] as const] : []
  })
  const names = ports.map(({ name }) => name)
  const shown = names.length > 3 ? [...names.slice(0, 3), `${names.length - 3} more`] : names
  return {
    analysis: { ...analysis, values: new Map([...values, ...known]) },
    notes: names.length === 0 ? [] : [`inputs and outputs that were float32 are float16: ${shown.join(', ')}`],
  }
}
