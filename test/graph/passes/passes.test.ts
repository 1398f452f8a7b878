/** @file The lists of passes, and each pass by itself. */

import { describe, expect, test } from 'vitest'
import { dtypeNumber } from '../../../src/graph/dtype.ts'
import { type Attribute, Graph, Node, Value } from '../../../src/graph/ir.ts'
import { ALIAS } from '../../../src/graph/passes/alias.ts'
import { COPY_NODE } from '../../../src/graph/passes/copy-node.ts'
import { DROP_IDENTITIES } from '../../../src/graph/passes/drop-identities.ts'
import { DROP_UNREAD_CONSTANTS, DROP_UNREAD_NODES } from '../../../src/graph/passes/drop-unread.ts'
import { FOLD_CONSTANTS } from '../../../src/graph/passes/fold-constants.ts'
import { KNOWN_TENSORS } from '../../../src/graph/passes/known-tensors.ts'
import { MARK_CONSTANTS } from '../../../src/graph/passes/mark-constants.ts'
import { NO_OPS } from '../../../src/graph/passes/no-ops.ts'
import type { NodePass } from '../../../src/graph/passes/pass.ts'
import { BODY_PASSES, FACT_PASSES, GRAPH_PASSES, NODE_PASSES, VALUE_PASSES } from '../../../src/graph/passes/passes.ts'
import { REFUSE_BODIES } from '../../../src/graph/passes/refuse-bodies.ts'
import { REFUSE_OVERFLOW } from '../../../src/graph/passes/refuse-overflow.ts'
import { REWRITE_FUSED } from '../../../src/graph/passes/rewrite-fused.ts'
import { SHARE_EQUAL } from '../../../src/graph/passes/share-equal.ts'
import { RewriteBuilder } from '../../../src/graph/rewrites/rewrite-builder.ts'
import { floatTensor, int64Tensor, readNumbers } from '../../../src/graph/tensor.ts'

const LISTS = {
  bodies: BODY_PASSES,
  nodes: NODE_PASSES,
  facts: FACT_PASSES,
  values: VALUE_PASSES,
  graph: GRAPH_PASSES,
}

test('the lists', () => {
  const lines = Object.entries(LISTS).flatMap(([list, passes]) => [
    list,
    ...passes.map(({ name, after }) => `  ${name}${after ? ` (after: ${after.join(', ')})` : ''}`),
  ])
  expect(lines.join('\n')).toMatchInlineSnapshot(`
    "bodies
      inline functions
      take branches (after: inline functions)
    nodes
      refuse overflow
      drop aliases
      replace known tensors
      refuse bodies
      rewrite fused ops (after: drop aliases, replace known tensors, refuse bodies)
      modernize (after: rewrite fused ops)
      copy primitives (after: refuse overflow, rewrite fused ops, modernize)
    facts
      follow selected rows
      mark constants (after: follow selected rows)
    values
      drop no-ops
      cast to float32 (after: drop no-ops)
    graph
      fold constants
      drop unread nodes (after: fold constants)
      drop identities
      drop unread constants (after: drop unread nodes)
      share equal constants (after: fold constants, drop unread constants)"
  `)
})

test.each(Object.entries(LISTS))('%s: every pass stands behind those it requires', (_, passes) => {
  const names = passes.map(({ name }) => name)
  expect(new Set(names).size).toBe(names.length)
  passes.forEach(({ after = [] }, i) => {
    for (const name of after) expect(names.slice(0, i)).toContain(name)
  })
})

const int = (value: number): Attribute => ({ type: 'int', value })

/** A builder with an input x [2, 3]. */
function start(): { g: RewriteBuilder; x: Value } {
  const g = new RewriteBuilder()
  return { g, x: g.input('x', 'float32', [2, 3]) }
}

/** A node of a user's graph, called "user". */
const nodeOf = (opType: string, inputs: readonly Value[], attributes: Record<string, Attribute> = {}): Node =>
  new Node(opType, [...inputs], [new Value('y')], new Map(Object.entries(attributes)), '', 'user')

/** Applies a pass to one node of opset 21. */
const apply = (pass: NodePass, g: RewriteBuilder, ...[opType, inputs, attributes]: Parameters<typeof nodeOf>) =>
  pass.apply({ g, opset: 21 }, nodeOf(opType, inputs, attributes), inputs)

describe('node passes', () => {
  test('drop aliases: an Identity, and a cast between float types', () => {
    const { g, x } = start()
    expect(apply(ALIAS, g, 'Identity', [x])).toEqual({ outputs: [x] })
    expect(apply(ALIAS, g, 'Cast', [x], { to: int(dtypeNumber('float16')) })).toEqual({ outputs: [x] })
    expect(apply(ALIAS, g, 'Cast', [x], { to: int(dtypeNumber('int64')) })).toBeUndefined()
    expect(apply(ALIAS, g, 'Neg', [x])).toBeUndefined()
  })

  test.each<[string, string, Record<string, Attribute>, number[]]>([
    ['Shape', 'Shape', {}, [2, 3]],
    ['Shape, its end', 'Shape', { start: int(-1) }, [3]],
    ['Size', 'Size', {}, [6]],
    ['Constant', 'Constant', { value_ints: { type: 'ints', value: [4, 5] } }, [4, 5]],
  ])('replace known tensors: %s', (_, opType, attributes, expected) => {
    const { g, x } = start()
    const result = apply(KNOWN_TENSORS, g, opType, opType === 'Constant' ? [] : [x], attributes)
    expect(result && 'tensor' in result && readNumbers(result.tensor)).toEqual(expected)
  })

  test('replace known tensors: NonZero of a constant, not of an input', () => {
    const { g, x } = start()
    const mask = g.initializer('mask', floatTensor([2, 2], [0, 1, 1, 0]))
    const result = apply(KNOWN_TENSORS, g, 'NonZero', [mask])
    expect(result && 'tensor' in result && readNumbers(result.tensor)).toEqual([0, 1, 1, 0])
    expect(apply(KNOWN_TENSORS, g, 'NonZero', [x])).toBeUndefined()
  })

  test('refuse overflow: the lowest integer divided by -1', () => {
    const { g } = start()
    const [lowest, other] = [-(2 ** 63), 5].map(value => g.initializer('dividend', int64Tensor([1], [value])))
    expect(() => apply(REFUSE_OVERFLOW, g, 'Div', [lowest!, g.ints([-1])])).toThrow('by -1, which overflows')
    expect(apply(REFUSE_OVERFLOW, g, 'Div', [other!, g.ints([-1])])).toBeUndefined()
  })

  test('refuse bodies: an Add with a graph', () => {
    const { g, x } = start()
    const body: Attribute = { type: 'graph', value: new Graph('body') }
    expect(() => apply(REFUSE_BODIES, g, 'Add', [x, x], { body })).toThrow('Add "user" has bodies')
    expect(apply(REFUSE_BODIES, g, 'Add', [x, x])).toBeUndefined()
  })

  test('rewrite fused ops: a Gelu, not an Erf', () => {
    const { g, x } = start()
    expect(apply(REWRITE_FUSED, g, 'Gelu', [x])).toHaveProperty('outputs')
    expect(g.graph.nodes.map(({ kind }) => kind)).toContain('Erf')
    expect(apply(REWRITE_FUSED, g, 'Erf', [x])).toBeUndefined()
  })

  test('copy primitives: a cast to a float type becomes one to float32', () => {
    const { g, x } = start()
    apply(COPY_NODE, g, 'Cast', [g.cast(x, 'int64')], { to: int(dtypeNumber('float16')) })
    apply(COPY_NODE, g, 'Concat', [x, x], { axis: int(0) })
    expect(g.graph.nodes.map(({ kind, outputs }) => `${kind} ${outputs[0]!.dtype}[${outputs[0]!.shape}]`)).toEqual([
      'Cast int64[2,3]',
      'Cast float32[2,3]',
      'Concat float32[4,3]',
    ])
  })
})

test('mark constants: sums of constants are pending, a transposed weight is a weight, the rest is neither', () => {
  const { g, x } = start()
  const weight = g.initializer('weight', floatTensor([3, 3], new Float32Array(9)))
  const weights = new Set([weight])
  const isConstant = (value?: Value) => value?.tensor !== undefined || (value !== undefined && weights.has(value))
  const state = { g, pending: new Set<Value>(), weights, isConstant }
  const sum = g.add(g.scalar(1), g.scalar(2))
  const transposed = g.transpose(weight, [1, 0])
  g.matMul(x, transposed)
  for (const node of g.graph.nodes) MARK_CONSTANTS.note(state, node)
  expect([...state.pending]).toEqual([sum])
  expect([...state.weights]).toEqual([weight, transposed])
})

test('drop no-ops: a Reshape to the same shape, but no Slice that runs backwards', () => {
  const { g, x } = start()
  const state = { toFloat32: (value: Value) => value }
  const backwards = g.slice(x, 1, -1, -4, -1)
  expect(NO_OPS.replace(state, g.reshape(x, [2, 3]))).toBe(x)
  expect(NO_OPS.replace(state, g.slice(x, 1, 0, 3))).toBe(x)
  expect(backwards.shape).toEqual([2, 3])
  expect(NO_OPS.replace(state, backwards)).toBe(backwards)
})

describe('graph passes', () => {
  /** A state that does not compute. */
  const stateOf = (g: RewriteBuilder) => {
    const folded: Value[] = []
    const fold = async (values: ReadonlySet<Value>) => void folded.push(...values)
    return { g, pending: new Set<Value>(), fold, folded }
  }

  test('fold constants: those that other nodes read, not those that only constants read', async () => {
    const { g, x } = start()
    const inner = g.add(g.scalar(1), g.scalar(2))
    const outer = g.neg(inner)
    g.output(g.mul(x, outer))
    const state = stateOf(g)
    state.pending.add(inner).add(outer)
    await FOLD_CONSTANTS.apply(state)
    expect(state.folded).toEqual([outer])
  })

  test('drop unread nodes, then unread constants', async () => {
    const { g, x } = start()
    const kept = g.scale(x, 2)
    g.scale(x, 3)
    g.output(kept)
    await DROP_UNREAD_NODES.apply(stateOf(g))
    expect(g.graph.nodes).toEqual([kept.producer])
    await DROP_UNREAD_CONSTANTS.apply(stateOf(g))
    expect(g.graph.initializers.map(({ tensor }) => readNumbers(tensor!))).toEqual([[2]])
  })

  test('drop identities, also of the output, and say what stands for them', async () => {
    const { g, x } = start()
    const [first, second] = [g.op('Identity', [x]), g.neg(x)]
    const sum = g.add(first, second)
    const last = g.op('Identity', [sum])
    g.output(last)
    const replaced = await DROP_IDENTITIES.apply(stateOf(g))
    expect([...replaced]).toEqual([
      [first, x],
      [last, sum],
    ])
    expect(g.graph.nodes.map(({ kind }) => kind)).toEqual(['Neg', 'Add'])
    expect(sum.producer!.inputs).toEqual([x, second])
    expect(g.graph.outputs).toEqual([sum])
  })

  test('share equal constants: of equal type, shape and elements', async () => {
    const { g, x } = start()
    const [a, b, c] = [[3], [3], [1, 3]].map(dims => g.initializer('mask', floatTensor(dims, [1, 2, 3])))
    g.output(g.add(g.add(g.add(x, a!), b!), c!))
    const replaced = await SHARE_EQUAL.apply(stateOf(g))
    expect([...replaced]).toEqual([[b, a]])
    expect(g.graph.initializers).toEqual([a, c])
    expect(g.graph.nodes.map(({ inputs }) => inputs[1])).toEqual([a, a, c])
  })
})
