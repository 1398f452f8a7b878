/** @file Pass: refuses integer divisions that may stop the process. */

import { QuantError } from '../../errors.ts'
import { requireConstantValue } from '../shape.ts'
import type { NodePass } from './pass.ts'

const LOWEST = { int8: -(2 ** 7), int16: -(2 ** 15), int32: -(2 ** 31), int64: -(2 ** 63) } as const

/**
 * The lowest integer divided by -1 is no integer, and processors stop a process that tries (onnxruntime 1.30 tries; it refuses division
 * by zero itself). So integers are only divided by constants, and a dividend of -1 must be a constant other than the lowest integer.
 * @throws E_UNSUPPORTED; E_NOT_ONNX
 */
export const REFUSE_OVERFLOW: NodePass = {
  name: 'refuse overflow',
  apply: (_, node, inputs) => {
    const lowest = LOWEST[inputs[0]?.dtype as keyof typeof LOWEST] as number | undefined
    if ((node.kind !== 'Div' && node.kind !== 'Mod') || lowest === undefined) return undefined
    if (!requireConstantValue(node, 1, inputs[1]).includes(-1)) return undefined
    if (requireConstantValue(node, 0, inputs[0]).includes(lowest))
      throw new QuantError('E_NOT_ONNX', `${node.kind} "${node.name}" divides ${lowest} by -1, which overflows`)
    return undefined
  },
}
