/** @file Errors of the working copy, told with the node of the user's graph that they are about. Knows no op. */

import { messageOf, QuantError } from '../../errors.ts'
import type { Node, Value } from '../ir.ts'

/**
 * Adds the user's node to an error, because names in the working copy are ours. Other errors than QuantError come from shape rules:
 * the node breaks the rules of ONNX.
 */
export function inModel(error: unknown, node: Node, inputs: readonly (Value | undefined)[]): QuantError {
  if (!(error instanceof QuantError) || error.code === 'E_INTERNAL') {
    const given = inputs.map(input => `[${input?.shape?.join(', ') ?? ''}]`).join(', ')
    return new QuantError(
      'E_NOT_ONNX',
      `${node.kind} "${node.name}" is not possible with inputs ${given || 'that are absent'}: ${messageOf(error)}`,
      'The file is damaged or was written wrongly: export it again.',
      { cause: error },
    )
  }
  if (node.name === '' || error.message.includes(node.name)) return error
  const { message, hint } = error.words()
  return new QuantError(error.code, `${message} (${node.kind} "${node.name}" of the model)`, hint, { cause: error })
}
