/**
 * @file Replaces com.microsoft Attention in the user's graph by MatMul, Add, Split and MultiHeadAttention. The projection of queries,
 * keys and values becomes a node of its own, which is quantized like any other linear.
 */

import { GraphWriter } from '../graph-writer.ts'
import { type Attribute, type Graph, type Model, Node, Value } from '../ir.ts'
import { declined, required } from '../rewrites/rewrite.ts'
import { storedTensor } from '../stored-weight.ts'
import { int64Tensor } from '../tensor.ts'

const MICROSOFT = 'com.microsoft'

const ATTENTION = 'com.microsoft.Attention'

/** Split takes its sizes, and Unsqueeze its axes, as an input from this opset on. */
const SIZES_AS_INPUT = 13

/** Attributes that mean the same in MultiHeadAttention. */
const KEPT = ['num_heads', 'unidirectional', 'scale', 'mask_filter_value']

const ints = (value: readonly number[]): Attribute => ({ type: 'ints', value })

const int = (value: number): Attribute => ({ type: 'int', value })

/** Sizes of q, k and v: qkv_hidden_sizes, or thirds of the weight [in, q + k + v]. */
function projectionSizes(node: Node, weight: Value): readonly number[] {
  const sizes = node.ints('qkv_hidden_sizes')
  if (sizes?.length === 3 && sizes.some(size => size > 0)) return sizes
  const columns = storedTensor(weight)?.dims[1]
  if (columns === undefined || columns % 3 !== 0)
    throw declined(node, `a weight "${weight.name}" whose width is not known`)
  return Array<number>(3).fill(columns / 3)
}

/** Nodes that compute what `node` does, with its outputs. */
function unfuse(writer: GraphWriter, node: Node): Node[] {
  for (const name of ['do_rotary', 'past_present_share_buffer']) if (node.int(name, 0)) throw declined(node, name)
  if (node.inputs[6]) throw declined(node, 'past_sequence_length')
  const [x, weight] = [required(node, node.inputs, 0, 'input'), required(node, node.inputs, 1, 'weights')]
  const [, , bias, mask, past, attentionBias] = node.inputs
  const [y, present] = node.outputs
  const stem = y?.name ?? node.name
  const g = writer.at({ values: stem, nodes: node.name })
  const nodes: Node[] = []
  const op = (
    opType: string,
    inputs: (Value | undefined)[],
    suffixes: readonly string[],
    attributes: readonly (readonly [string, Attribute])[] = [],
  ): Value[] => {
    const outputs = suffixes.map(suffix => new Value(writer.fresh(`${stem}_${suffix}`), x.dtype))
    const name = node.name && `${node.name}/${suffixes.length > 1 ? opType : suffixes[0]}`
    nodes.push(new Node(opType, inputs, outputs, new Map(attributes), '', name))
    return outputs
  }
  // Newer opsets have sizes and axes as inputs, older ones as attributes.
  const sized = (name: string, numbers: readonly number[]) =>
    writer.opset >= SIZES_AS_INPUT
      ? { input: [g.shared(`ints_${numbers.join('_')}`, 'ints', () => int64Tensor([numbers.length], numbers))] }
      : { attribute: [[name, ints(numbers)] as const] }

  const [product] = op('MatMul', [x, weight], ['MatMul'])
  const [projected] = bias ? op('Add', [product, bias], ['Add']) : [product]
  const sizes = sized('split', projectionSizes(node, weight))
  const [q, k, v] = op(
    'Split',
    [projected, ...(sizes.input ?? [])],
    ['query', 'key', 'value'],
    [['axis', int(-1)], ...(sizes.attribute ?? [])],
  )
  // The cache is one tensor [2, B, N, P, hd]: keys, then values.
  const [pastKey, pastValue] = [0, 1].map(part => {
    if (!past) return undefined
    const index = g.shared(`index_${part}`, 'index', () => int64Tensor([], [part]))
    return op('Gather', [past, index], [part === 0 ? 'past_key' : 'past_value'], [['axis', int(0)]])[0]
  })
  const attributes = KEPT.flatMap(name => {
    const attribute = node.attributes.get(name)
    return attribute ? [[name, attribute] as const] : []
  })
  const presents = present
    ? ['key', 'value'].map(part => new Value(writer.fresh(`${present.name}_${part}`), x.dtype))
    : []
  nodes.push(
    new Node(
      'MultiHeadAttention',
      [q, k, v, undefined, mask, attentionBias, pastKey, pastValue],
      [y, ...presents],
      new Map(attributes),
      MICROSOFT,
      node.name,
    ),
  )
  if (present) {
    const axes = sized('axes', [0])
    const parts = presents.map(
      (value, i) =>
        op('Unsqueeze', [value, ...(axes.input ?? [])], [`present_${i === 0 ? 'key' : 'value'}`], axes.attribute)[0],
    )
    nodes.push(
      new Node('Concat', parts, [present], new Map([['axis', int(0)]]), '', node.name && `${node.name}/Concat`),
    )
  }
  return nodes
}

const holdsAttention = (graph: Graph): boolean =>
  graph.nodes.some(node => node.kind === ATTENTION || node.subgraphs().some(holdsAttention))

/**
 * Replaces com.microsoft Attention(x, W [in, q + k + v], b, mask, past [2, B, N, P, hd], attention_bias) in place by MatMul, Add,
 * Split and MultiHeadAttention, which compute the same. Outputs keep their names.
 * @throws E_UNSUPPORTED naming node and attribute when MultiHeadAttention lacks the attribute.
 */
export function unfuseAttention(model: Model): void {
  if (!holdsAttention(model.graph)) return
  const writer = new GraphWriter(model)
  writer.rewriteNodes(node => (node.kind === ATTENTION ? unfuse(writer, node) : [node]))
}
