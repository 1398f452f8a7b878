/** @file Pass: replaces an If by the branch that it takes for the fixed inputs. */

import { QuantError } from '../../errors.ts'
import { capturedValues } from '../dependencies.ts'
import { constantNumbers } from '../shape.ts'
import type { BodyPass } from './pass.ts'

export const TAKE_BRANCH: BodyPass = {
  name: 'take branches',
  // A file may define a function called If.
  after: ['inline functions'],
  bodyOf: async (state, node) => {
    if (node.kind !== 'If') return undefined
    const condition = state.lookup(node.inputs[0])
    if (condition && state.pending.has(condition)) await state.fold(new Set([condition]))
    const [taken] = constantNumbers(condition) ?? []
    const body = node.attributes.get(taken ? 'then_branch' : 'else_branch')
    if (taken === undefined || body?.type !== 'graph')
      throw new QuantError('E_UNSUPPORTED', `which branch of If "${node.name}" runs depends on the tokens`)
    return { graph: body.value, inputs: [...capturedValues(body.value)], opset: state.opset }
  },
}
