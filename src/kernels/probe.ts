/** @file The program that tries a device: what training needs of it, small, with numbers that are known beforehand. */

import { Builder } from '../graph/builder.ts'
import { Graph, Node, Value } from '../graph/ir.ts'
import { floatTensor, int64Tensor, readNumbers } from '../graph/tensor.ts'
import type { Device } from './device.ts'
import { runGraph, type Tensors } from './session.ts'

const SIZE = 8
/** From this width on a softmax on CUDA needs cuDNN (onnxruntime 1.30), as every ReduceMax does. */
const WIDTH = 1024
const STEPS = 3
/** Largest relative error of a softmax, whose exponentials are no two devices' the same. */
const TOLERANCE = 1e-4

/** Whole numbers: TF32 and float32 hold those below 2048 exactly, and so each product and sum here. */
const START: readonly number[] = Array.from({ length: SIZE * SIZE }, (_, i) => (i * 5) % 7)
/** A matrix with a 1 and a 2 in every row and column. */
const MIXED: readonly number[] = Array.from({ length: SIZE * SIZE }, (_, i) => {
  const distance = ((i % SIZE) - Math.floor(i / SIZE) + SIZE) % SIZE
  return distance === 1 ? 1 : distance === 3 ? 2 : 0
})
const SCORES: readonly number[] = Array.from({ length: 2 * WIDTH }, (_, i) => ((i * 7) % 11) / 4)

/**
 * Loop of `steps`: state' = state * mixed + 1, with the greatest number of each row and the softmax of `scores` at every step.
 * All numbers are inputs, so that onnxruntime computes nothing beforehand on the CPU.
 */
function probeProgram(): Graph {
  const outer = new Builder(new Graph('probe'))
  const steps = outer.input('steps', 'int64', [])
  const start = outer.input('start', 'float32', [SIZE, SIZE])
  const mixed = outer.input('mixed', 'float32', [SIZE, SIZE])
  const scores = outer.input('scores', 'float32', [2, WIDTH])
  const g = new Builder(new Graph('step'), outer.names)
  g.input('iteration', 'int64', [])
  const condition = g.input('continue', 'bool', [])
  const state = g.input('state', 'float32', [SIZE, SIZE])
  const next = g.shift(g.matMul(state, mixed), 1)
  const results = [next, g.reduceLast('ReduceMax', next), g.op('Softmax', [scores], { axis: -1 })]
  for (const value of [g.op('Identity', [condition]), ...results]) g.output(value)
  const outputs = [
    new Value('last', 'float32', [SIZE, SIZE]),
    new Value('greatest', 'float32', ['steps', SIZE, 1]),
    new Value('shares', 'float32', ['steps', 2, WIDTH]),
  ]
  outer.graph.nodes.push(
    new Node('Loop', [steps, undefined, start], outputs, new Map([['body', { type: 'graph', value: g.graph }]])),
  )
  outer.graph.outputs.push(...outputs)
  return outer.graph
}

/** The same numbers in float64, without onnxruntime. */
function expected(): Record<string, readonly number[]> {
  const greatest: number[] = []
  let state = START
  for (let step = 0; step < STEPS; step++) {
    const before = state
    const product = (row: number, column: number): number =>
      Array.from({ length: SIZE }, (_, j) => before[row * SIZE + j]! * MIXED[j * SIZE + column]!).reduce(
        (a, b) => a + b,
      )
    state = before.map((_, i) => product(Math.floor(i / SIZE), i % SIZE) + 1)
    for (let row = 0; row < SIZE; row++) greatest.push(Math.max(...state.slice(row * SIZE, (row + 1) * SIZE)))
  }
  const shares = [0, 1].flatMap(row => {
    const powers = SCORES.slice(row * WIDTH, (row + 1) * WIDTH).map(Math.exp)
    const sum = powers.reduce((a, b) => a + b, 0)
    return powers.map(power => power / sum)
  })
  return { last: state, greatest, shares: Array.from({ length: STEPS }, () => shares).flat() }
}

const TOLERANCES: Readonly<Record<string, number>> = { last: 0, greatest: 0, shares: TOLERANCE }

/** Refuses results of the probe that are not the right ones. @throws Error that names the first wrong number. */
export function checkProbe(results: Tensors): void {
  for (const [name, right] of Object.entries(expected())) {
    const found = readNumbers(results[name]!)
    const wrong = right.findIndex((value, i) => !(Math.abs(found[i]! - value) <= TOLERANCES[name]! * value))
    if (found.length === right.length && wrong < 0) continue
    throw new Error(`wrong numbers: ${name}[${wrong}] is ${found[wrong]}, not ${right[wrong]}`)
  }
}

/** Results of the program on a device: last [8, 8], greatest [3, 8, 1], shares [3, 2, 1024]. @throws E_DEVICE, E_RUNTIME with onnxruntime's words. */
export async function runProbe(device: Device): Promise<Tensors> {
  const feeds = {
    steps: int64Tensor([], [STEPS]),
    start: floatTensor([SIZE, SIZE], START),
    mixed: floatTensor([SIZE, SIZE], MIXED),
    scores: floatTensor([2, WIDTH], SCORES),
  }
  return runGraph(probeProgram(), feeds, { device })
}

/** Tries a device. @throws E_DEVICE, E_RUNTIME with onnxruntime's words, Error for wrong numbers. */
export async function probe(device: Device): Promise<void> {
  checkProbe(await runProbe(device))
}
