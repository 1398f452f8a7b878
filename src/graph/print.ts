/** @file A graph as text, one node a line: for snapshots and error messages. */

import { isFileRange } from '../files/file-range.ts'
import type { Attribute, Dim, Graph, Node, Value } from './ir.ts'
import { elementCount, readNumbers } from './tensor.ts'

/** Constants up to this many elements are printed in full. */
const MAX_PRINTED_ELEMENTS = 8

const shapeText = (shape: readonly Dim[] | undefined): string =>
  shape ? `[${shape.map(dim => dim ?? '?').join(', ')}]` : '[?]'

function constantText(value: Value): string | undefined {
  const tensor = value.tensor
  if (!tensor || isFileRange(tensor.data) || tensor.strings || elementCount(tensor.dims) > MAX_PRINTED_ELEMENTS)
    return undefined
  const numbers = readNumbers(tensor).join(', ')
  return tensor.dims.length === 0 ? numbers : `[${numbers}]`
}

function attributeText(attribute: Attribute): string {
  switch (attribute.type) {
    case 'graph':
      return '{...}'
    case 'tensor':
      return `tensor ${attribute.value.dtype}[${attribute.value.dims.join(', ')}]`
    case 'reference':
      return `@${attribute.value}`
    case 'opaque':
      return '?'
    default:
      return JSON.stringify(attribute.value)
  }
}

/** `y: float32[4, 8] = MatMul(x, w) {axis: 1}`. Small constants are shown in place of their names. */
export function printNode(node: Node): string {
  const outputs = node.outputs
    .map(output => (output ? `${output.name}: ${output.dtype ?? '?'}${shapeText(output.shape)}` : '_'))
    .join(', ')
  const inputs = node.inputs.map(input => (input ? (constantText(input) ?? input.name) : '_')).join(', ')
  const attributes = [...node.attributes].map(([name, attribute]) => `${name}: ${attributeText(attribute)}`).join(', ')
  return `${outputs} = ${node.kind}(${inputs})${attributes ? ` {${attributes}}` : ''}`
}

/** The whole graph; bodies of Loop and If are indented under their node. */
export function print(graph: Graph): string {
  const lines: string[] = []
  const visit = (current: Graph, indent: string) => {
    const inputs = current.inputs.map(value => `${value.name}: ${value.dtype ?? '?'}${shapeText(value.shape)}`)
    lines.push(`${indent}graph ${current.name}(${inputs.join(', ')}) {`)
    for (const value of current.initializers) {
      if (constantText(value) === undefined)
        lines.push(`${indent}  const ${value.name}: ${value.dtype ?? '?'}${shapeText(value.shape)}`)
    }
    for (const node of current.nodes) {
      lines.push(`${indent}  ${printNode(node)}`)
      for (const body of node.subgraphs()) visit(body, `${indent}    `)
    }
    lines.push(`${indent}  return ${current.outputs.map(value => value.name).join(', ')}`, `${indent}}`)
  }
  visit(graph, '')
  return lines.join('\n')
}
