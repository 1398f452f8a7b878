/**
 * @file Rules of ops for the scales of the channels they read. An op passes a scale on, ends it, or refuses it, and one without
 * a row refuses: so a channel that nothing refused can be scaled without changing the block. Knows no model family.
 */

import { dependencies } from '../../../graph/dependencies.ts'
import type { Node, Value } from '../../../graph/ir.ts'
import { sliceRanges, splitSizes } from '../../../graph/node-arguments.ts'
import { rowsFor } from '../../../graph/ops.ts'
import { constantNumbers, normalizeAxis, staticShape } from '../../../graph/shape.ts'
import { elementCount } from '../../../graph/tensor.ts'
import type { Block } from '../../find/blocks.ts'
import type { Leaving } from '../../find/leaving.ts'
import type { Linear } from '../../find/linears.ts'
import { Channels } from './channels.ts'
import { describeNode, type ScaleTrace, ScaleTracer, type Traced } from './scale-trace.ts'

type Rule = (trace: ScaleTracer, node: Node) => void

const hasChannels = ({ channels }: Traced): boolean => channels.distinct().some(id => id >= 0)

/**
 * An op no scale passes. Where it keeps the shape its output goes on under the channels it came from, which can no longer be scaled:
 * so that the linear that reads it can say why.
 */
const refuses: Rule = (trace, node) => {
  const read = [...dependencies(node)].flatMap(value => trace.of(value) ?? []).filter(hasChannels)
  for (const traced of read) trace.refuse(traced, `${describeNode(node)} does not pass a scale on`)
  const [first] = read
  const output = node.outputs[0]
  if (first && output && first.channels.shape.join() === staticShape(output).join())
    trace.set(node, 0, first.channels, first)
}

/** f(s x) = s f(x) for s > 0, element by element. */
const homogeneous: Rule = (trace, node) => {
  const x = trace.of(node.inputs[0])
  if (x) trace.set(node, 0, x.channels, x)
}

type Movement = (x: Channels, node: Node) => (Channels | undefined)[] | undefined

/** An op that moves elements of its first input as its other inputs, constants, say. */
const moves =
  (movement: Movement): Rule =>
  (trace, node) => {
    const x = trace.of(node.inputs[0])
    if (!x || node.inputs.some((input, i) => i > 0 && trace.of(input))) return refuses(trace, node)
    const outputs = movement(x.channels, node)
    if (!outputs) return refuses(trace, node)
    outputs.forEach((channels, i) => trace.set(node, i, channels, x, x.shift))
  }

const firstAxis = (node: Node, x: Channels): number => normalizeAxis(node.int('axis', 0), x.shape.length)

const reshape: Rule = (trace, node) => {
  moves(x => [x.reshape(staticShape(node.outputs[0]!))])(trace, node)
  trace.keepSums(node.inputs[0]!, node.outputs[0])
}

const transpose: Rule = (trace, node) => {
  const rank = staticShape(node.inputs[0]!).length
  const perm = node.ints('perm') ?? Array.from({ length: rank }, (_, i) => rank - 1 - i)
  moves(x => [x.transpose(perm)])(trace, node)
  if (perm.at(-1) === rank - 1) trace.keepSums(node.inputs[0]!, node.outputs[0])
}

const slice: Movement = (x, node) => [
  sliceRanges(node).reduce((part, { axis, start, step, size }) => part.slice(axis, start, step, size), x),
]

const split: Movement = (x, node) => {
  const axis = firstAxis(node, x)
  let start = 0
  return splitSizes(node).map(size => {
    const part = x.slice(axis, start, 1, size)
    start += size
    return part
  })
}

const gather: Movement = (x, node) => {
  const indices = constantNumbers(node.inputs[1])
  if (!indices) return undefined
  const axis = firstAxis(node, x)
  const fromFront = indices.map(index => (index < 0 ? index + x.shape[axis]! : index))
  return [x.take(axis, fromFront).reshape(staticShape(node.outputs[0]!))]
}

const tile: Movement = (x, node) => {
  const repeats = constantNumbers(node.inputs[1])
  return repeats && [x.tile(repeats)]
}

const expand: Movement = (x, node) => [x.expand(staticShape(node.outputs[0]!))]

/** Parts that are constant have no channels. */
const concat: Rule = (trace, node) => {
  const parts = node.inputs.map((value): Traced => {
    const constant = () => ({ channels: Channels.none(staticShape(value!)), attended: false, shift: undefined })
    return trace.of(value) ?? constant()
  })
  const [first] = parts as [Traced]
  const axis = normalizeAxis(node.int('axis', 0), first.channels.shape.length)
  const joined = Channels.concat(
    parts.map(({ channels }) => channels),
    axis,
  )
  if (!joined) return refuses(trace, node)
  const shift = parts.every(part => part.shift === first.shift) ? first.shift : undefined
  trace.set(node, 0, joined, { ...first, attended: parts.some(({ attended }) => attended) }, shift)
}

/** The input that depends on the block's input, where the other one does not. */
function oneActivation(trace: ScaleTracer, node: Node): { x: Traced; constant: number } | undefined {
  const [a, b] = [trace.of(node.inputs[0]), trace.of(node.inputs[1])]
  if (a && b) return undefined
  return a ? { x: a, constant: 1 } : { x: b!, constant: 0 }
}

/** Add, Sub: what is added to a scaled channel needs its scale. */
const sum: Rule = (trace, node) => {
  const one = oneActivation(trace, node)
  if (one) return trace.bias(node, one.x, one.constant)
  const reason = `${describeNode(node)} combines it with something that is not scaled`
  trace.combine(node, (a, b) => {
    if (a >= 0 && b >= 0) trace.classes.tie(a, b, false, reason)
    else if (a >= 0 || b >= 0) trace.classes.refuse(Math.max(a, b), reason)
    return Math.min(a, b) < 0 ? -1 : a
  })
}

/** True for a constant with one element for each channel on the last axis of `value`. */
function isVectorOf(constant: Value, value: Value): boolean {
  const dims = staticShape(constant)
  const channels = staticShape(value).at(-1) ?? 1
  return constant.tensor !== undefined && channels > 1 && dims.at(-1) === channels && elementCount(dims) === channels
}

/** One of two factors may be scaled; it is the one that nothing refuses, or the first. */
const multiply: Rule = (trace, node) => {
  const one = oneActivation(trace, node)
  if (one) {
    const { x, constant } = one
    if (isVectorOf(node.inputs[constant]!, node.outputs[0]!) && !trace.isScalable(x)) return trace.gain(node, constant)
    return trace.set(node, 0, x.channels.expand(staticShape(node.outputs[0]!)), x)
  }
  const { classes } = trace
  const multiplies = `${describeNode(node)} multiplies it with`
  trace.combine(node, (a, b) => {
    if (a < 0 || b < 0) return Math.max(a, b)
    const same = classes.root(a) === classes.root(b)
    if (!same && classes.refusal(a) !== undefined) return b
    if (same || classes.refusal(b) === undefined)
      classes.refuse(b, same ? `${multiplies} itself` : `${multiplies} another value, which can be scaled instead`)
    return a
  })
}

/** x / constant, or x / y: the divisor must have no scale. */
const divide: Rule = (trace, node) => {
  const divisor = trace.of(node.inputs[1])
  const x = trace.of(node.inputs[0])
  if (!x) return refuses(trace, node)
  if (!divisor) return trace.set(node, 0, x.channels.expand(staticShape(node.outputs[0]!)), x)
  trace.refuse(divisor, `${describeNode(node)} divides by it`)
  trace.combine(node, a => a)
}

/** A product that is not a quantized linear. It passes on scales of the axis it keeps; the one it sums over must have none, or inverse ones. */
const product: Rule = (trace, node) => {
  const [a, b] = [trace.of(node.inputs[0]), trace.of(node.inputs[1])]
  const shape = staticShape(node.outputs[0]!)
  if (a && !b && trace.floatProduct(node, a)) return
  if (!b || staticShape(node.inputs[0]!).length < 2 || staticShape(node.inputs[1]!).length < 2) {
    for (const x of [a, b])
      if (x) trace.refuse(x, `${describeNode(node)} reads it, and is not a linear that is quantized`)
    return
  }
  const [left, right] = [a && hasChannels(a), hasChannels(b)]
  if (a && left && right) return trace.scoreProduct(node, a, b)
  const x = left ? a! : b
  const axis = x.channels.shape.length - (left ? 1 : 2)
  if (!x.channels.isConstantAlong(axis)) {
    trace.refuse(x, `${describeNode(node)} sums over its channels, with factors that have no scales`)
    trace.scores.push({ node, queries: [...x.channels.distinct()].filter(id => id >= 0), keys: [] })
    return
  }
  // Rows of probabilities sum to 1, so that adding a number to a channel of all tokens adds it to the result.
  const shift = !left && a && trace.hasSums(node.inputs[0]!) ? b.shift : undefined
  trace.set(node, 0, x.channels.slice(axis, 0, 1, 1).expand(shape), { ...x, attended: a !== undefined }, shift)
}

const softmax: Rule = (trace, node) => {
  refuses(trace, node)
  const rank = staticShape(node.inputs[0]!).length
  if (normalizeAxis(node.int('axis', -1), rank) === rank - 1) trace.markSums(node.outputs[0]!)
}

const RULES: Readonly<Record<string, Rule>> = {
  Add: sum,
  Sub: sum,
  Mul: multiply,
  Div: divide,
  MatMul: product,
  Softmax: softmax,
  Neg: homogeneous,
  Abs: homogeneous,
  Relu: homogeneous,
  LeakyRelu: homogeneous,
  ...rowsFor(['view'], reshape),
  Transpose: transpose,
  Slice: moves(slice),
  Split: moves(split),
  Gather: moves(gather),
  Tile: moves(tile),
  Expand: moves(expand),
  Concat: concat,
}

/** Follows every channel of a block; time and memory grow with its channels, not with its tokens. */
export function traceScales(block: Block, leaving?: Leaving): ScaleTrace {
  const trace = new ScaleTracer()
  const linears = new Map<Node, Linear>(block.linears.map(linear => [linear.node, linear]))
  trace.forget(block.input)
  for (const node of block.nodes) {
    const linear = linears.get(node)
    if (linear) trace.linear(node, linear)
    else (RULES[node.kind] ?? refuses)(trace, node)
    for (const output of node.outputs) {
      if (!output) continue
      if (!trace.of(output)) trace.forget(output)
      const outputs = leaving?.values.get(output)
      if (outputs) trace.leave(trace.of(output)!, outputs, name => leaving!.mayChange.has(name))
    }
  }
  trace.refuse(trace.of(block.output)!, 'it is what the block gives to the next one')
  return trace
}
