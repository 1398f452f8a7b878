/** @file Rows chosen at run time: the working copy, where every row goes through, against what onnxruntime makes of the user's graph. */

import { describe, expect, test } from 'vitest'
import { VJP_RULES } from '../../../src/autodiff/vjp-rules.ts'
import type { Value } from '../../../src/graph/ir.ts'
import { floatTensor } from '../../../src/graph/tensor.ts'
import { runGraph } from '../../../src/kernels/session.ts'
import { EXPERTS, HIDDEN, RoutedModel, workingCopy } from '../../helpers/routed-model.ts'
import { noise } from '../../kernels/weights.ts'
import { expectClose, runAtOpset } from './compare.ts'

const TOKENS = 5

interface Form {
  /** Nodes that the rows go through; by default a gated expert. */
  readonly through?: (m: RoutedModel, rows: Value) => Value
  /** Mask of the tokens of expert e, and which of its axes is the token. */
  readonly mask?: (m: RoutedModel, indices: Value, e: number) => { readonly mask: Value; readonly tokenAxis: number }
  readonly reduction?: 'none' | 'add'
}

/** OneHot of the indices, experts first: optimum's form. */
const oneHot = (m: RoutedModel, indices: Value, e: number) => {
  const hot = m.op('OneHot', [indices, m.scalar(EXPERTS), m.ints(0, 1)], { axis: -1 })
  const turned = m.op('Transpose', [hot], { perm: [2, 1, 0] })
  return { mask: m.cast(m.op('Gather', [turned, m.scalar(e)], { axis: 0 }), 'bool'), tokenAxis: 1 }
}
const equal = (m: RoutedModel, indices: Value, e: number) => ({
  mask: m.op('Equal', [indices, m.scalar(e)]),
  tokenAxis: 0,
})

/** Experts one after the other on the rows routed to them. */
function layer({ through = (m, rows) => m.expert(rows), mask = oneHot, reduction = 'none' }: Form): RoutedModel {
  const m = new RoutedModel()
  const { weights, indices } = m.route(m.x)
  const shape = m.op('Shape', [m.x])
  let sum = m.op('ConstantOfShape', [shape])
  for (let e = 0; e < EXPERTS; e++) {
    const chosen = mask(m, indices, e)
    const found = m.op('Transpose', [m.op('NonZero', [chosen.mask])], { perm: [1, 0] })
    const parts = m.ops('Split', [found, m.ints(1, 1)], 2, { axis: 1 })
    const coordinates = parts.map(part => m.op('Squeeze', [part, m.ints(1)]))
    const token = coordinates[chosen.tokenAxis]!
    const place = coordinates[1 - chosen.tokenAxis]!
    const y = through(m, m.op('Gather', [m.x, token], { axis: 0 }))
    const at = m.op('Add', [place, m.op('Mul', [token, m.scalar(2)])])
    const weight = m.op('Gather', [m.op('Reshape', [weights, m.ints(-1, 1)]), at], { axis: 0 })
    const weighted = m.op('Mul', [y, weight])
    const index = m.op('Expand', [m.op('Unsqueeze', [token, m.ints(1)]), m.op('Shape', [weighted])])
    const target = reduction === 'add' ? sum : m.op('ConstantOfShape', [shape])
    const put = m.op('ScatterElements', [target, index, weighted], { axis: 0, reduction })
    sum = reduction === 'add' ? put : m.op('Add', [sum, put])
  }
  m.op('Identity', [sum])
  return m
}

describe('experts on the rows a TopK chose', () => {
  test.each<[string, Form]>([
    ['masks of OneHot, tokens last', {}],
    ['masks of Equal, tokens first', { mask: equal }],
    ['added where they go', { reduction: 'add' }],
    ['a norm inside', { through: (m, x) => m.op('Mul', [x, m.op('ReduceMean', [x, m.ints(-1)], { keepdims: 1 })]) }],
    [
      'a reshape that keeps rows',
      { through: (m, x) => m.op('Flatten', [m.op('Unsqueeze', [x, m.ints(1)])], { axis: 1 }) },
    ],
  ])('%s', async (_, form) => {
    const m = layer(form)
    const model = m.model(m.graph.nodes.at(-1)!.outputs[0]!)
    const x = floatTensor([TOKENS, HIDDEN], noise(TOKENS * HIDDEN, 7))
    const { graph } = await workingCopy(model, [TOKENS, HIDDEN])
    expect(graph.nodes.map(({ kind }) => kind).filter(kind => !(kind in VJP_RULES))).toEqual([])
    expect(graph.nodes.map(({ kind }) => kind)).not.toContain('Identity')
    const expected = await runAtOpset(m.graph, { x }, 18)
    const got = await runGraph(graph, { x })
    expectClose(Object.values(got)[0], expected['y'], 1e-5)
  })

  test.each<[string, Form, RegExp]>([
    [
      'rows that see each other',
      { through: (m, x) => m.op('Sub', [x, m.op('ReduceMean', [x, m.ints(0)], { keepdims: 1 })]) },
      /ReduceMean "layers.0\/.*" reads rows chosen at run time in a way that is not understood/,
    ],
    [
      'an op nobody knows to keep rows apart',
      { through: (m, x) => m.op('CumSum', [x, m.scalar(0)]) },
      /CumSum "layers.0\/.*" reads rows chosen at run time/,
    ],
    [
      'rows that no TopK chose',
      {
        mask: (m, indices, e) => ({
          mask: m.op('Less', [indices, m.scalar(e)]),
          tokenAxis: 0,
        }),
      },
      /NonZero "layers.0\/.*": a shape that depends on data, other than that of rows chosen by a TopK, is not supported/,
    ],
  ])('%s are refused', async (_, form, message) => {
    const m = layer(form)
    const model = m.model(m.graph.nodes.at(-1)!.outputs[0]!)
    await expect(workingCopy(model, [TOKENS, HIDDEN])).rejects.toThrow(
      expect.objectContaining({ code: 'E_UNSUPPORTED', message: expect.stringMatching(message) as string }),
    )
  })
})
