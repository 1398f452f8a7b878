/** @file Every gradient rule against finite differences, and float32 programs against float64 ones. */

import { beforeAll, describe, expect, test } from 'vitest'
import { gradients } from '../../src/autodiff/backward.ts'
import { NO_GRADIENT } from '../../src/autodiff/vjp.ts'
import { VJP_RULES } from '../../src/autodiff/vjp-rules.ts'
import { Builder } from '../../src/graph/builder.ts'
import { staticShape } from '../../src/graph/shape.ts'
import { elementCount, floatTensor, readNumbers } from '../../src/graph/tensor.ts'
import { runGraph } from '../../src/kernels/session.ts'
import { checkVjp, vjpFailure, type VjpReport } from '../helpers/check-vjp.ts'
import { NO_GRADIENT_SPECS, VJP_SPECS } from './vjp-specs.ts'

const kindsWhere = (wanted: boolean) =>
  Object.keys(VJP_RULES).filter(kind => (VJP_RULES[kind] === NO_GRADIENT) === wanted)

test('every rule has a row, and every row a rule', () => {
  expect(new Set(VJP_SPECS.map(spec => spec.kind))).toEqual(new Set(kindsWhere(false)))
  expect(new Set(VJP_SPECS.map(spec => `${spec.dtype} ${spec.name}`)).size).toBe(VJP_SPECS.length)
  expect(new Set(NO_GRADIENT_SPECS.map(spec => spec.kind))).toEqual(new Set(kindsWhere(true)))
})

describe('finite differences', () => {
  let reports: Map<string, VjpReport>
  beforeAll(async () => {
    reports = new Map((await checkVjp(VJP_SPECS)).map(report => [`${report.spec.dtype} ${report.spec.name}`, report]))
  })
  test.each(VJP_SPECS.map(spec => [`${spec.dtype ?? 'float64'} ${spec.name}`, spec] as const))('%s', (_, spec) => {
    expect(vjpFailure(reports.get(`${spec.dtype} ${spec.name}`)!)).toBeUndefined()
  })
})

test('float32 programs, which use other ops, compute once optimized the gradients of the float64 ones', async () => {
  const specs = VJP_SPECS.filter(spec => spec.dtype === undefined)
  const [doubles, floats] = [await checkVjp(specs), await checkVjp(specs, { dtype: 'float32', optimization: 'all' })]
  const worst = doubles.flatMap((report, i) =>
    report.outcomes.map((outcome, j) => {
      const other = floats[i]!.outcomes[j]!
      const largest = Math.max(...outcome.dx.map(Math.abs))
      const error = Math.max(...outcome.dx.map((value, k) => Math.abs(value - other.dx[k]!)))
      return { name: `${report.spec.name}, input ${outcome.input}`, error: error / largest }
    }),
  )
  expect(worst.length).toBeGreaterThan(150)
  expect(worst.filter(({ error }) => !(error < 2e-6))).toEqual([])
})

describe('ops without gradient give zeros', () => {
  test.each(NO_GRADIENT_SPECS.map(spec => [spec.kind, spec] as const))('%s', async (_, spec) => {
    const g = new Builder()
    const x = g.input('x', 'float64', [2, 3])
    const y = spec.build(g, x)
    const dy = g.input('dy', 'float64', staticShape(y))
    // Range and ConstantOfShape read constants: ask for the gradient of what the node reads.
    const read = y.producer!.inputs.find(input => input?.dtype === 'float64')
    const wrt = read && read !== x && read.tensor ? read : x
    const before = g.graph.nodes.length
    const dx = gradients(g, new Map([[y, dy]]), [wrt]).get(wrt)!
    expect(g.graph.nodes.length - before).toBe(1)
    g.output(g.op('Identity', [dx]), 'dx')
    g.output(g.op('Identity', [y]), 'y')
    const ones = (shape: readonly number[]) => floatTensor(shape, Array(elementCount(shape)).fill(1), 'float64')
    const { dx: result } = await runGraph(g.graph, { x: ones([2, 3]), dy: ones(staticShape(y)) }, { threads: 1 })
    expect(result!.dims).toEqual([...staticShape(wrt)])
    expect(readNumbers(result!).every(value => value === 0)).toBe(true)
  })
})
