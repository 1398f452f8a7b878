/**
 * @file Costs of a program counted from its graph: launches, products, bytes, and waits of the host. For measuring only.
 *
 * A node is a launch of one kernel. Nodes that cost nothing on a device, or that onnxruntime does away with before it runs, are not
 * counted: views of a tensor, nodes whose inputs are all constant, a second node with the inputs and attributes of another, a Transpose
 * that only products read and an Add that only a Softmax reads (both become one with their reader), and factors behind a product.
 * Reductions are one launch, although cuDNN may take more. Every input is read once and every output written once.
 */

const VIEWS = new Set(['Reshape', 'Unsqueeze', 'Squeeze', 'Flatten', 'Identity'])
const WIDTH = { float32: 4, float16: 2, bfloat16: 2, int64: 8, int32: 4, float64: 8, bool: 1, uint8: 1 }

const elements = value => (value.shape ?? []).reduce((count, dim) => count * (typeof dim === 'number' ? dim : 1), 1)
const bytesOf = value => elements(value) * (WIDTH[value.dtype] ?? 4)

/** Attributes as text. */
const attributesOf = node =>
  [...node.attributes].map(([name, { value }]) => `${name}=${value?.dims ? value.data : value}`).join(' ')

/** Nodes that launch something, of one graph. `constants`: values known before the run, to which those that are folded are added. */
function launching(graph, constants) {
  const readers = new Map()
  for (const node of graph.nodes)
    for (const input of node.inputs) if (input) readers.set(input, [...(readers.get(input) ?? []), node])
  const outputs = new Set(graph.outputs)
  const onlyReadBy = (value, accepts) => !outputs.has(value) && (readers.get(value) ?? []).every(accepts)
  /** Outputs of nodes that are computed twice -> those of the first. */
  const same = new Map()
  const first = new Map()
  const isConstant = value => !value || value.tensor !== undefined || constants.has(value)
  return graph.nodes.filter(node => {
    const [output] = node.outputs
    if (node.inputs.every(isConstant)) {
      for (const value of node.outputs) constants.add(value)
      return false
    }
    const inputs = node.inputs.map(value => value && (same.get(value) ?? value).name)
    const key = [node.kind, attributesOf(node), ...inputs].join('|')
    const original = first.get(key)
    node.outputs.forEach((value, i) => original && same.set(value, original.outputs[i]))
    if (original) return false
    first.set(key, node)
    if (VIEWS.has(node.opType)) return false
    const { opType } = node
    const read = readers.get(output) ?? []
    if (opType === 'Transpose' && swapsLast(node) && read.length && onlyReadBy(output, r => r.opType === 'MatMul'))
      return false
    if (opType === 'Add' && read.length && onlyReadBy(output, r => r.opType === 'Softmax')) return false
    if (opType === 'Mul' && isFactor(node, readers)) return false
    return true
  })
}

function swapsLast(node) {
  const perm = node.ints('perm') ?? []
  const rank = perm.length
  return rank >= 2 && perm.every((from, to) => from === (to < rank - 2 ? to : 2 * rank - 3 - to))
}

/** A number that a product's result is multiplied by: onnxruntime takes it into the product. */
function isFactor(node, readers) {
  return node.inputs.some((input, i) => {
    const other = node.inputs[1 - i]
    const scalar = input?.tensor !== undefined && elements(input) === 1
    return scalar && other?.producer?.opType === 'MatMul' && readers.get(other).length === 1
  })
}

const isProduct = node => node.opType === 'MatMul'

/** Multiplications and additions of a product, counted as two. */
function flops(node) {
  const inner = node.inputs[0].shape.at(-1)
  return 2 * elements(node.outputs[0]) * inner
}

/** A product that sums: one of its sides is a single row or column. */
const isSum = node =>
  [node.outputs[0].shape.at(-1), node.outputs[0].shape.at(-2), node.inputs[0].shape.at(-1)].includes(1)

/**
 * Costs of the nodes of one graph. `kinds`: function from the largest number of elements of a node to the name of what it works on.
 * -> launches, products and sums (products that sum), flops, bytes by kind (of all but the products, whose bytes are `productBytes`).
 */
export function graphCosts(graph, kinds, constants = new Set()) {
  const costs = { launches: 0, products: 0, sums: 0, flops: 0, productBytes: 0, bytes: {}, passes: {} }
  for (const node of launching(graph, constants)) {
    if (node.subgraphs().length > 0) continue
    const values = [...node.inputs, ...node.outputs].filter(value => value && value.dtype !== 'int64')
    // A Gather reads what it gives, not all it could.
    const bytes =
      node.opType === 'Gather' ? 2 * bytesOf(node.outputs[0]) : values.reduce((sum, value) => sum + bytesOf(value), 0)
    if (isProduct(node)) {
      costs.products++
      costs.flops += flops(node)
      if (!isSum(node)) {
        costs.productBytes += bytes
        continue
      }
      costs.sums++
    } else costs.launches++
    const kind = kinds(Math.max(...(node.opType === 'Gather' ? node.outputs : values).map(elements)))
    costs.bytes[kind] = (costs.bytes[kind] ?? 0) + bytes
    costs.passes[kind] = (costs.passes[kind] ?? 0) + 1
  }
  return costs
}

/** Costs of a training program: of one step (the body of its Loop), and of what is computed once a run. */
export function trainingCosts(program, kinds) {
  const loop = program.nodes.find(node => node.opType === 'Loop')
  const constants = new Set()
  const once = graphCosts(program, kinds, constants)
  return { once, step: graphCosts(loop.subgraphs()[0], kinds, constants) }
}
