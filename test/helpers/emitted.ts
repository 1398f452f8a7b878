/** @file Checks that hold for every file we write, whatever its source. */

import { expect } from 'vitest'
import type { Graph, Value } from '../../src/graph/ir.ts'
import { loadModel } from '../../src/graph/onnx-file/load.ts'

interface ValueInfoList {
  readonly valueInfo?: readonly { readonly name?: string | null }[] | null
}

function checkGraph(graph: Graph, outer: ReadonlySet<string>, domains: Set<string>): void {
  const defined = new Set(outer)
  const own = new Set<string>()
  const nodeNames = new Set<string>()
  const define = (value: Value, what: string) => {
    expect(own.has(value.name), `${what} "${value.name}" is there twice`).toBe(false)
    own.add(value.name)
    defined.add(value.name)
  }
  for (const value of graph.initializers) define(value, 'initializer')
  for (const value of graph.inputs) if (!value.tensor) define(value, 'input')
  for (const node of graph.nodes) {
    domains.add(node.domain === 'ai.onnx' ? '' : node.domain)
    if (node.name !== '') {
      expect(nodeNames.has(node.name), `node "${node.name}" is there twice`).toBe(false)
      nodeNames.add(node.name)
    }
    for (const input of node.inputs)
      if (input) expect(defined.has(input.name), `"${node.name}" reads "${input.name}" before it is made`).toBe(true)
    for (const body of node.subgraphs()) checkGraph(body, defined, domains)
    for (const output of node.outputs) if (output) define(output, 'value')
  }
  for (const output of graph.outputs) expect(defined.has(output.name), `output "${output.name}"`).toBe(true)
  const { valueInfo } = (graph.source ?? {}) as ValueInfoList
  for (const { name } of valueInfo ?? []) expect(own.has(name ?? ''), `types are told of "${name}"`).toBe(true)
}

/** Fails where names, order, imported domains, or declared types and shapes of inner values are wrong. */
export function checkEmitted(path: string): void {
  const model = loadModel(path)
  const domains = new Set<string>()
  checkGraph(model.graph, new Set(), domains)
  const imported = model.opsetImports.map(({ domain }) => (domain === 'ai.onnx' ? '' : domain))
  expect(new Set(imported).size).toBe(imported.length)
  for (const domain of domains) {
    const inFunctions = [...(model.functions?.keys() ?? [])].some(kind => kind.startsWith(`${domain}.`))
    expect(imported.includes(domain) || inFunctions, `the file imports no opset of "${domain}"`).toBe(true)
  }
}
