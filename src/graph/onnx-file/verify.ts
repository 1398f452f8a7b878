/** @file Checks that a graph is sound: names, order, producers. Repairs the order only; knows no op. */

import { type ErrorCode, QuantError } from '../../errors.ts'
import { dependencies } from '../dependencies.ts'
import type { Graph, Node, Value } from '../ir.ts'
import { sparseInitializerNames } from './encode.ts'

const nameOf = (node: Node): string => `${node.kind} "${node.name || (node.outputs[0]?.name ?? '')}"`

/**
 * Puts nodes after the producers of their inputs, bodies included. Nodes already in order stay where they are.
 * @throws E_NOT_ONNX naming a node of a cycle
 */
export function sortTopologically(graph: Graph): void {
  const here = new Set(graph.nodes)
  const state = new Map<Node, 'open' | 'done'>()
  const sorted: Node[] = []
  for (const root of graph.nodes) {
    // Depth first without recursion: chains of nodes are longer than the stack is deep.
    const stack = [root]
    while (stack.length > 0) {
      const node = stack.at(-1)!
      if (state.get(node) !== undefined) {
        stack.pop()
        if (state.get(node) === 'open') {
          state.set(node, 'done')
          sorted.push(node)
        }
        continue
      }
      state.set(node, 'open')
      const before = [...dependencies(node)].flatMap(value => (value.producer ? [value.producer] : []))
      for (const producer of before.reverse()) {
        if (!here.has(producer) || state.get(producer) === 'done') continue
        if (state.get(producer) === 'open') {
          throw new QuantError('E_NOT_ONNX', `the graph "${graph.name}" has a cycle through ${nameOf(producer)}`)
        }
        stack.push(producer)
      }
    }
  }
  graph.nodes = sorted
  for (const node of sorted) for (const body of node.subgraphs()) sortTopologically(body)
}

export interface VerifyOptions {
  /** E_NOT_ONNX, of a file, by default; E_INTERNAL after a rewrite of ours. */
  readonly code?: ErrorCode
}

/** Most problems that are listed; further ones are counted. */
const MAX_LISTED = 5

/**
 * Checks a graph and its bodies: every name is given once, everything read is an input, a constant, an output of an earlier
 * node or a value of a graph around, producers are right, initializers have values.
 * @throws E_NOT_ONNX (or `code`) listing the problems
 */
export function verify(graph: Graph, { code = 'E_NOT_ONNX' }: VerifyOptions = {}): void {
  const problems: string[] = []

  const visit = (current: Graph, outer: (value: Value) => boolean) => {
    const own = new Set<Value>()
    // A chain of lookups instead of copied sets: files have thousands of bodies.
    const visible = (value: Value): boolean => own.has(value) || outer(value)
    const here = new Set(current.nodes)
    const names = new Map<string, Value>()
    const define = (value: Value, how: string) => {
      if (value.name === '') problems.push(`${how} of "${current.name}" has no name`)
      else if (names.has(value.name)) problems.push(`"${value.name}" is defined more than once`)
      names.set(value.name, value)
      own.add(value)
    }
    const inputs = new Set(current.inputs)
    for (const value of current.inputs) define(value, 'an input')
    for (const value of current.initializers) {
      if (value.tensor === undefined) problems.push(`the initializer "${value.name}" has no values`)
      if (!inputs.has(value)) define(value, 'an initializer')
      inputs.delete(value) // listed as an input is fine, listed twice as an initializer is not
    }
    const kept = new Set(sparseInitializerNames(current))

    const check = (value: Value, reader: string) => {
      if (visible(value)) return
      if (value.producer === undefined && kept.has(value.name)) own.add(value)
      else if (value.producer && here.has(value.producer))
        problems.push(`${reader} reads "${value.name}" before ${nameOf(value.producer)} makes it`)
      else problems.push(`${reader} reads "${value.name}", which nothing makes`)
    }
    for (const node of current.nodes) {
      for (const value of node.inputs) if (value) check(value, nameOf(node))
      for (const body of node.subgraphs()) visit(body, visible)
      for (const value of node.outputs) {
        if (!value) continue
        define(value, `an output of ${nameOf(node)}`)
        if (value.producer !== node) problems.push(`"${value.name}" does not know that ${nameOf(node)} makes it`)
      }
    }
    for (const value of current.outputs) check(value, `the result of "${current.name}"`)
  }
  visit(graph, () => false)

  if (problems.length === 0) return
  const listed = problems.slice(0, MAX_LISTED).join('; ')
  const more = problems.length > MAX_LISTED ? `; and ${problems.length - MAX_LISTED} more` : ''
  throw new QuantError(code, `the graph "${graph.name}" is not sound: ${listed}${more}`)
}
