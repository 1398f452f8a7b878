/** @file Writes a block into a program: the same nodes, with the weights the program says. */

import type { Builder } from '../graph/builder.ts'
import type { Node, Value } from '../graph/ir.ts'
import { readBytes } from '../graph/tensor.ts'
import type { Block } from './blocks.ts'
import type { Linear } from './linears.ts'

/** Linears by name, unique within a block also where the model repeats names. */
export type Weights = ReadonlyMap<Linear, Value>

/**
 * Appends the block to `g`, reading hidden states `x` and the canonical [K, N] `weights`, and returns its output.
 * Every other constant the block reads (gains, biases, masks, rotary tables) is copied into the program.
 */
export function emitBlock(g: Builder, block: Block, x: Value, weights: Weights): Value {
  const values = new Map<Value, Value>([[block.input, x]])
  const weightOf = new Map<Node, Value>([...weights].map(([linear, value]) => [linear.node, value]))
  const lookup = (value: Value): Value => {
    const known = values.get(value)
    if (known) return known
    if (value.producer) copy(value.producer)
    else {
      const { dtype, dims } = value.tensor!
      values.set(value, g.initializer(value.name, { dtype, dims, data: readBytes(value.tensor!) }))
    }
    return values.get(value)!
  }
  const copy = (node: Node): void => {
    const weight = weightOf.get(node)
    const inputs = weight ? [lookup(node.inputs[0]!), weight] : node.inputs.map(input => input && lookup(input))
    const outputs = g.copy(node, inputs)
    node.outputs.forEach((output, i) => {
      if (output) values.set(output, outputs[i]!)
    })
  }
  for (const node of block.nodes) copy(node)
  return values.get(block.output)!
}
