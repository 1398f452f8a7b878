/** @file Runs the programs that fold a block: once each, with what they read of the block's weights and of what was learned. */

import type { Graph } from '../../graph/ir.ts'
import { tensorOf } from '../../graph/tensor.ts'
import { runGraph, type SessionOptions, type Tensors } from '../../kernels/session.ts'

/** Run inputs of all programs of a block. @param weights w{i}. @param parameters of the block's vector, where there is one. */
export const foldInputs = (weights: Tensors, parameters: Float32Array | undefined): Tensors => ({
  ...weights,
  ...(parameters && { parameters: tensorOf('float32', [parameters.length], parameters) }),
})

/**
 * Outputs of a program. On the CPU and in float32 always: a program runs once, and codes do not depend on the device then.
 * @param inputs those of the program, among others.
 */
export function runFold(program: Graph, inputs: Tensors, session: SessionOptions): Promise<Tensors> {
  const feeds = Object.fromEntries(program.inputs.map(({ name }) => [name, inputs[name]!]))
  return runGraph(program, feeds, { ...session, device: 'cpu', matmul: 'float32' })
}
