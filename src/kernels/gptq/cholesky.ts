/**
 * @file Cholesky factor of a large matrix, in panels of columns (left-looking, as LAPACK's blocked form): all products are programs of
 * onnxruntime. Only the lower half of the factor is ever in memory. Knows no weight.
 */

import { Builder } from '../../graph/builder.ts'
import { type Dim, Graph, Node, Value } from '../../graph/ir.ts'
import { tensorOf } from '../../graph/tensor.ts'
import { readFloats } from '../float16.ts'
import type { Programs } from '../programs.ts'

/** Columns of a panel. */
export const PANEL = 128

/** Input with a number of rows that is known when the program runs. */
export function tallInput(g: Builder, name: string, columns: number): Value {
  const value = new Value(g.names.fresh(name), 'float32', ['rows', columns])
  g.graph.inputs.push(value)
  return value
}

/** One node of tall values. Shapes are not inferred for them. */
export function tallOp(g: Builder, opType: string, inputs: readonly Value[], shape: readonly Dim[]): Value {
  const output = new Value(g.names.fresh(opType.toLowerCase()), 'float32', shape)
  g.graph.nodes.push(new Node(opType, [...inputs], [output], new Map(), '', output.name))
  return output
}

/** Panel less the part of earlier columns: panel [rows, PANEL], left [rows, PANEL], top [PANEL, PANEL] -> panel - left top^T. */
function updateProgram(): Graph {
  const g = new Builder(new Graph('update'))
  const [panel, left] = [tallInput(g, 'panel', PANEL), tallInput(g, 'left', PANEL)]
  const top = g.transpose(g.input('top', 'float32', [PANEL, PANEL]), [1, 0])
  const shape = ['rows', PANEL]
  g.output(tallOp(g, 'Sub', [panel, tallOp(g, 'MatMul', [left, top], shape)], shape), 'next')
  return g.graph
}

/** Rows below a factored square: panel [rows, PANEL], inverse [PANEL, PANEL] -> panel inverse. */
function belowProgram(): Graph {
  const g = new Builder(new Graph('below'))
  const panel = tallInput(g, 'panel', PANEL)
  const inverse = g.input('inverse', 'float32', [PANEL, PANEL])
  g.output(tallOp(g, 'MatMul', [panel, inverse], ['rows', PANEL]), 'below')
  return g.graph
}

/**
 * Factor of one square, in float64: square [PANEL, PANEL] -> lower L with square = L L^T, inverse L^-T, and pivots [PANEL], which are the
 * squares of L's diagonal. Gaussian elimination of the square beside the identity leaves D L'^T and L'^-1, where L = L' D^(1/2).
 */
function squareProgram(): Graph {
  const outer = new Builder(new Graph('square'))
  const square = outer.cast(outer.input('square', 'float32', [PANEL, PANEL]), 'float64')
  const places = outer.initializer('places', tensorOf('int64', [PANEL, 1], BigInt64Array.from(indices(), BigInt)))
  const diagonal = outer.op('Equal', [places, outer.transpose(places, [1, 0])])
  const augmented = outer.concat([square, outer.cast(diagonal, 'float64')], 1)

  const g = new Builder(new Graph('eliminate'), outer.names)
  const iteration = g.input('iteration', 'int64', [])
  const condition = g.input('continue', 'bool', [])
  const state = g.input('state', 'float64', [PANEL, 2 * PANEL])
  const row = g.op('Gather', [state, iteration], { axis: 0 })
  const pivot = g.op('Gather', [row, iteration], { axis: 0 })
  const column = g.reshape(g.op('Gather', [state, iteration], { axis: 1 }), [PANEL, 1])
  const below = g.cast(g.op('Greater', [places, iteration]), 'float64')
  const factors = g.div(g.mul(column, below), pivot)
  const next = g.sub(state, g.mul(factors, g.reshape(row, [1, 2 * PANEL])))
  for (const value of [g.op('Identity', [condition]), next, pivot]) g.output(value)

  const eliminated = new Value(outer.names.fresh('eliminated'), 'float64', [PANEL, 2 * PANEL])
  const pivots = new Value(outer.names.fresh('pivots'), 'float64', [PANEL])
  const body = new Map([['body', { type: 'graph' as const, value: g.graph }]])
  const count = outer.scalar(PANEL, 'int64')
  outer.graph.nodes.push(new Node('Loop', [count, undefined, augmented], [eliminated, pivots], body))
  const scaled = outer.div(eliminated, outer.reshape(outer.op('Sqrt', [pivots]), [PANEL, 1]))
  const part = (first: number) => outer.transpose(outer.slice(scaled, 1, first, first + PANEL), [1, 0])
  outer.output(outer.cast(part(0), 'float32'), 'lower')
  outer.output(outer.cast(part(PANEL), 'float32'), 'inverse')
  outer.output(outer.cast(pivots, 'float32'), 'least')
  return outer.graph
}

const indices = (): number[] => [...Array(PANEL).keys()]

/**
 * Lower factor L of a symmetric matrix A = L L^T of `panels` x PANEL rows.
 * @param panelOf panel p of A, row-major: its columns p * PANEL to (p + 1) * PANEL, in the rows from p * PANEL on.
 * @returns the same panels of L; undefined where A is not positive definite in float32.
 */
export async function cholesky(
  panels: number,
  panelOf: (panel: number) => Float32Array,
  programs: Programs,
): Promise<Float32Array[] | undefined> {
  const square = [PANEL, PANEL]
  const tall = (numbers: Float32Array) => tensorOf('float32', [numbers.length / PANEL, PANEL], numbers)
  const update = await programs.get('update', updateProgram)
  const factor = await programs.get('square', squareProgram)
  const solve = await programs.get('below', belowProgram)
  const done: Float32Array[] = []
  for (let p = 0; p < panels; p++) {
    let panel = panelOf(p)
    for (const [q, earlier] of done.entries()) {
      const left = earlier.subarray((p - q) * PANEL * PANEL)
      const top = tensorOf('float32', square, left.subarray(0, PANEL * PANEL))
      panel = readFloats((await update.run({ panel: tall(panel), left: tall(left), top }))['next']!)
    }
    const own = tensorOf('float32', square, panel.subarray(0, PANEL * PANEL))
    const { lower, inverse, least } = await factor.run({ square: own })
    if (!readFloats(least!).every(pivot => pivot > 0 && Number.isFinite(pivot))) return undefined
    const result = new Float32Array(panel.length)
    result.set(readFloats(lower!))
    if (panel.length > PANEL * PANEL) {
      const rest = tall(panel.subarray(PANEL * PANEL))
      result.set(readFloats((await solve.run({ panel: rest, inverse: inverse! }))['below']!), PANEL * PANEL)
    }
    done.push(result)
  }
  return done
}
