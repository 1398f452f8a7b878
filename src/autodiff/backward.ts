/**
 * @file The reverse walk: gradients of a graph, appended to that graph. Accumulation and the undoing of broadcasts happen
 * here and nowhere else; what an op's gradient is, the tables know.
 */

import { internalError, QuantError } from '../errors.ts'
import type { Builder } from '../graph/builder.ts'
import { isFloat } from '../graph/dtype.ts'
import { consumersOf, type Graph, type Node, type Value } from '../graph/ir.ts'
import { printNode } from '../graph/print.ts'
import { sameShape, staticShape } from '../graph/shape.ts'
import { accumulate } from './accumulate.ts'
import { customVjpOf } from './custom-vjp.ts'
import { zeros } from './fragments.ts'
import { unbroadcast } from './unbroadcast.ts'
import { VJP_RULES } from './vjp-rules.ts'
import { NO_GRADIENT, type VjpEntry, type VjpRule } from './vjp.ts'

/**
 * Appends the nodes that compute the gradient of sum(seed * value), over all `seeds` (value to its own gradient, same shape
 * and type), with respect to each value of `wrt`. Shapes must be static, nodes in topological order.
 *
 * Visits only nodes between `wrt` and the seeds. Every value of `wrt` gets an entry, zeros where nothing flows. Nodes that
 * rules appended and nothing reads are removed again.
 * @throws E_UNSUPPORTED naming the node, when an op on the path has no rule.
 */
export function gradients(g: Builder, seeds: ReadonlyMap<Value, Value>, wrt: readonly Value[]): Map<Value, Value> {
  const forward = [...g.graph.nodes]
  const active = activeValues(forward, wrt)
  const contributions = new Map<Value, Value[]>()
  const contribute = (value: Value, gradient: Value) => {
    const list = contributions.get(value)
    if (list) list.push(gradient)
    else contributions.set(value, [gradient])
  }
  /** The complete gradient of a value all of whose readers have been visited. */
  const total = (value: Value): Value | undefined => {
    const list = contributions.get(value)
    if (list === undefined) return undefined
    const sum = accumulate(g, list)
    contributions.set(value, [sum])
    return sum
  }

  for (const [value, seed] of seeds) {
    if (seed.dtype !== value.dtype || !sameShape(staticShape(seed), staticShape(value)))
      throw internalError(`the seed "${seed.name}" is not of the type and shape of "${value.name}"`)
    if (active.has(value)) contribute(value, seed)
  }
  for (const node of nodesOnPath(g.graph, active, seeds)) {
    const needs = needsOf(node, active)
    // On the path, and yet without gradient: a rule behind it answered zero.
    if (!node.outputs.some(output => output && contributions.has(output))) continue
    const rule = entryOf(node) as VjpRule
    const dx = rule(
      g,
      node,
      node.outputs.map(output => output && total(output)),
      needs,
    )
    node.inputs.forEach((input, i) => {
      const gradient = dx[i]
      if (!needs[i] || input === undefined || gradient === undefined) return
      if (gradient.dtype !== input.dtype)
        throw internalError(
          `the rule of ${node.kind} gave a ${gradient.dtype} gradient to the ${input.dtype} "${input.name}"`,
        )
      contribute(input, unbroadcast(g, gradient, staticShape(input)))
    })
  }

  const result = new Map(
    wrt.map(value => [value, total(value) ?? zeros(g, staticShape(value), value.dtype ?? 'float32')]),
  )
  sweep(g.graph, forward.length, new Set(result.values()))
  return result
}

function entryOf(node: Node): VjpEntry | undefined {
  return customVjpOf(node) ?? (Object.hasOwn(VJP_RULES, node.kind) ? VJP_RULES[node.kind] : undefined)
}

/** Values a gradient can travel through on its way to `wrt`: floating point, and computed from one of them. */
function activeValues(nodes: readonly Node[], wrt: readonly Value[]): Set<Value> {
  const active = new Set(wrt)
  for (const node of nodes) {
    if (entryOf(node) === NO_GRADIENT || !reads(node).some(value => active.has(value))) continue
    for (const output of node.outputs) {
      // An output without a type is one no inference rule describes: it stays in, so that reaching it is an error.
      if (output && (output.dtype === undefined || isFloat(output.dtype))) active.add(output)
    }
  }
  return active
}

/** Everything a node reads: its inputs, and what the bodies of Loop, If and Scan read from around them. */
function reads(node: Node): Value[] {
  const inputs = node.inputs.filter(input => input !== undefined)
  return [...inputs, ...node.subgraphs().flatMap(body => [...body.nodes.flatMap(reads), ...body.outputs])]
}

const needsOf = (node: Node, active: ReadonlySet<Value>): boolean[] =>
  node.inputs.map(input => input !== undefined && active.has(input))

/**
 * Nodes between `wrt` and the seeds, last first.
 * @throws E_UNSUPPORTED naming all those without a rule, before anything is written.
 */
function nodesOnPath(graph: Graph, active: ReadonlySet<Value>, seeds: ReadonlyMap<Value, Value>): Node[] {
  const reached = new Set(seeds.keys())
  const path = graph.nodes.toReversed().filter(node => {
    if (entryOf(node) === NO_GRADIENT || !reads(node).some(value => active.has(value))) return false
    if (!node.outputs.some(output => output && active.has(output) && reached.has(output))) return false
    for (const value of reads(node)) if (active.has(value)) reached.add(value)
    return true
  })
  const missing = path.filter(node => entryOf(node) === undefined).reverse()
  const [first, ...others] = missing
  if (first === undefined) return path
  const also = others.map(node => `${node.kind} "${node.name}"`).join(', ')
  throw new QuantError(
    'E_UNSUPPORTED',
    `no gradient rule for ${first.kind} (node "${first.name}"):\n${neighbourhood(graph, first)}` +
      (also && `\nnor for: ${also}`),
    'Add a row in src/autodiff/rules.',
  )
}

/** The node with the nodes up to two edges away, one a line, in graph order. */
function neighbourhood(graph: Graph, node: Node): string {
  const consumers = consumersOf(graph)
  const near = new Set([node])
  for (let distance = 0; distance < 2; distance++) {
    for (const current of [...near]) {
      for (const input of current.inputs) if (input?.producer) near.add(input.producer)
      for (const output of current.outputs) if (output) consumers.get(output)?.forEach(reader => near.add(reader))
    }
  }
  const lines = graph.nodes.filter(other => near.has(other))
  return lines.map(other => `${other === node ? '  > ' : '    '}${printNode(other)}`).join('\n')
}

/** Removes nodes from `start` on that nobody reads: what a rule wrote and a later one made superfluous. */
function sweep(graph: Graph, start: number, used: Set<Value>): void {
  for (const output of graph.outputs) used.add(output)
  const kept: Node[] = []
  for (const node of graph.nodes.splice(start).reverse()) {
    if (!node.outputs.some(output => output && used.has(output))) continue
    for (const value of reads(node)) used.add(value)
    kept.push(node)
  }
  graph.nodes.push(...kept.reverse())
}
