/**
 * @file State of the walk along the channels of a block (scale-rules.ts), from their maker (columns of a linear, or a gain) to their
 * readers: the channels of each value, those that share a scale, those that must not be scaled. Knows no op.
 */

import type { Node, Value } from '../../../graph/ir.ts'
import { type Shape, staticShape } from '../../../graph/shape.ts'
import { elementCount } from '../../../graph/tensor.ts'
import type { Linear } from '../../find/linears.ts'
import type { Site } from '../site.ts'
import { Channels } from './channels.ts'
import { ScaleClasses } from './scale-classes.ts'

/** A constant whose elements are scaled with channels; -1 for those that are not. */
export interface ScaledVector {
  readonly site: Site
  readonly ids: Int32Array
  /** It makes channels, instead of being added to some. */
  readonly isGain: boolean
}

/** The input channels of a linear. */
export interface LinearRead {
  readonly linear: Linear
  /** [K]; -1 for a channel no scale reaches. */
  readonly ids: Int32Array
  /** They passed through a product of probabilities and values. */
  readonly attended: boolean
  /** The bias behind which nothing but movement and probabilities lies. */
  readonly shift: Site | undefined
}

/** A stored weight [K, N] that stays float and reads scaled channels. */
export interface FloatRead {
  readonly site: Site
  /** [K]; -1 for a channel no scale reaches. */
  readonly ids: Int32Array
}

/** A product of two activations that sums over scaled channels: scores of attention. */
export interface ScoreProduct {
  readonly node: Node
  /** Ids of the first operand and of the second, pair by pair; of one alone where the other has none. */
  readonly queries: readonly number[]
  readonly keys: readonly number[]
}

/** Channels from which an output of the user's graph is made. */
export interface LeavingChannels {
  readonly output: string
  /** Each at least once; -1 for one no scale reaches. */
  readonly ids: Int32Array
}

export interface ScaleTrace {
  readonly classes: ScaleClasses
  /** First id of each linear's columns. */
  readonly columns: ReadonlyMap<Linear, number>
  readonly vectors: readonly ScaledVector[]
  readonly reads: readonly LinearRead[]
  readonly floatReads: readonly FloatRead[]
  readonly scores: readonly ScoreProduct[]
  readonly leaving: readonly LeavingChannels[]
}

/** State of a value that depends on the block's input. */
export interface Traced {
  readonly channels: Channels
  readonly attended: boolean
  readonly shift: Site | undefined
}

/** `MatMul "/model/layers.0/mlp/down_proj/MatMul"`, in the user's words. */
export const describeNode = (node: Node): string => {
  const { kind, name } = node.origin ?? node
  return `${kind} "${name || (node.outputs[0]?.name ?? '')}"`
}

/** The state of the walk. Scales are positive. */
export class ScaleTracer implements ScaleTrace {
  readonly classes: ScaleClasses = new ScaleClasses()
  readonly columns: Map<Linear, number> = new Map()
  readonly vectors: ScaledVector[] = []
  readonly reads: LinearRead[] = []
  readonly floatReads: FloatRead[] = []
  readonly scores: ScoreProduct[] = []
  readonly leaving: LeavingChannels[] = []
  /** Values that depend on the block's input; all others are constants. */
  private readonly values = new Map<Value, Traced>()
  /** Values whose last axis holds numbers that sum to 1. */
  private readonly sumToOne = new Set<Value>()

  /** State of a value that depends on the block's input; undefined for constants. */
  of(value: Value | undefined): Traced | undefined {
    return value && this.values.get(value)
  }

  forget(value: Value): void {
    this.values.set(value, { channels: Channels.none(staticShape(value)), attended: false, shift: undefined })
  }

  /** Channels of an output; undefined ones are those of an arrangement we cannot follow. */
  set(node: Node, index: number, channels: Channels | undefined, from: Traced, shift?: Site): void {
    const output = node.outputs[index]
    if (!output) return
    if (channels) this.values.set(output, { channels, attended: from.attended, shift })
    else this.refuse(from, `${describeNode(node)} rearranges it in a way that is not understood`)
  }

  /** Notes that `to` holds the rows of `from`, and so the same sums. */
  keepSums(from: Value, to: Value | undefined): void {
    if (to && this.sumToOne.has(from) && staticShape(from).at(-1) === staticShape(to).at(-1)) this.sumToOne.add(to)
  }

  markSums(value: Value): void {
    this.sumToOne.add(value)
  }

  hasSums(value: Value): boolean {
    return this.sumToOne.has(value)
  }

  refuse({ channels }: Traced, reason: string): void {
    for (const id of channels.distinct()) if (id >= 0) this.classes.refuse(id, reason)
  }

  /** Notes that outputs of the user's graph are made of it, and refuses its channels where one of them has to stay as it is. */
  leave(traced: Traced, outputs: ReadonlySet<string>, mayChange: (output: string) => boolean): void {
    const ids = traced.channels.distinct()
    for (const output of outputs) {
      if (mayChange(output)) this.leaving.push({ output, ids })
      else this.refuse(traced, `"${output}" is made of it, an output that stays as it is`)
    }
  }

  /** True where some channel of it may still be scaled. */
  isScalable({ channels }: Traced): boolean {
    return channels.distinct().some(id => id >= 0 && this.classes.refusal(id) === undefined)
  }

  /** x [.., K] * w [K, N]: ends the scales of x, and makes N channels. */
  linear(node: Node, linear: Linear): void {
    const x = this.of(node.inputs[0])!
    const ids = x.channels.along(staticShape(node.inputs[0]!).length - 1)
    if (!ids) this.refuse(x, `${describeNode(node)} reads channels that differ from token to token`)
    const none = new Int32Array(linear.inFeatures).fill(-1)
    this.reads.push({ linear, ids: ids ?? none, attended: x.attended, shift: x.shift })
    const first = this.classes.create(linear.outFeatures)
    this.columns.set(linear, first)
    const channels = Channels.numbered(staticShape(node.outputs[0]!), first, 1)
    this.set(node, 0, channels, { channels, attended: false, shift: undefined })
  }

  /** x [.., K] * w [K, N] with a stored w that stays float: ends the scales of x. @returns false when its rows cannot be scaled. */
  floatProduct(node: Node, x: Traced): boolean {
    const ids = x.channels.along(x.channels.shape.length - 1)
    if (!ids || node.inputs[1]!.tensor?.dims.length !== 2) return false
    this.floatReads.push({ site: { node, input: 1 }, ids })
    return true
  }

  /** A gain: multiplies what has no scale, and so can have one for each element. */
  gain(node: Node, input: number): void {
    const shape = staticShape(node.outputs[0]!)
    const first = this.classes.create(shape.at(-1)!)
    const ids = Int32Array.from({ length: shape.at(-1)! }, (_, i) => first + i)
    this.vectors.push({ site: { node, input }, ids, isGain: true })
    const channels = Channels.numbered(shape, first, 1)
    this.set(node, 0, channels, { channels, attended: false, shift: undefined })
  }

  /** x plus a constant: a bias, whose elements are scaled with the channels they are added to. */
  bias(node: Node, x: Traced, input: number): void {
    const constant = node.inputs[input]!
    const shape = staticShape(node.outputs[0]!)
    const channels = x.channels.expand(shape)
    if (!this.isScalable(x)) return this.set(node, 0, channels, x)
    const dims = staticShape(constant)
    const added = shape.length - dims.length
    const foreign = dims.some((dim, i) => dim > 1 && channels.isConstantAlong(i + added))
    if (!constant.tensor || foreign || elementCount(dims) < 2) {
      this.refuse(x, `${describeNode(node)} adds a constant to it that is not one number per channel`)
      return this.set(node, 0, channels, x)
    }
    const reason = `${describeNode(node)} adds one number to channels that are scaled and channels that are not`
    const ids: (number | undefined)[] = Array<undefined>(elementCount(dims)).fill(undefined)
    const zipped = Channels.zip(channels, Channels.numbered(dims, 0), (id, element) => {
      const known = (ids[element] ??= id)
      if (known >= 0 && id >= 0) this.classes.tie(known, id, false, reason)
      else if (known !== id) this.classes.refuse(Math.max(known, id), reason)
      return id
    })
    const site = { node, input }
    this.vectors.push({ site, ids: Int32Array.from(ids, id => id ?? -1), isGain: false })
    this.set(node, 0, zipped, x, node.kind === 'Add' ? site : undefined)
  }

  /** Combines two activations element by element. */
  combine(node: Node, rule: (a: number, b: number) => number): void {
    const [a, b] = [this.of(node.inputs[0])!, this.of(node.inputs[1])!]
    const channels = Channels.zip(a.channels, b.channels, rule)
    if (!channels) this.refuse(b, `${describeNode(node)} combines it with something of another arrangement`)
    this.set(node, 0, channels, { ...a, attended: a.attended || b.attended })
  }

  /** A product that sums over scaled channels: every scale must meet its inverse. */
  scoreProduct(node: Node, a: Traced, b: Traced): void {
    const [first, second] = [a.channels, b.channels]
    const rank = first.shape.length
    const leading = [...Array(second.shape.length - 2).keys()]
    const turned = second.transpose([...leading, leading.length + 1, leading.length])
    const insert = (shape: Shape, at: number) => [...shape.slice(0, at), 1, ...shape.slice(at)]
    const rows = first.reshape(insert(first.shape, rank - 1))
    const cols = turned.reshape(insert(turned.shape, leading.length))
    const queries: number[] = []
    const keys: number[] = []
    const reason = `${describeNode(node)} multiplies it with something that does not have the inverse scale`
    const paired =
      rows &&
      cols &&
      Channels.zip(rows, cols, (query, key) => {
        if (query >= 0 && key >= 0) {
          this.classes.tie(query, key, true, reason)
          queries.push(query)
          keys.push(key)
        } else if (query >= 0 || key >= 0) this.classes.refuse(Math.max(query, key), reason)
        return -1
      })
    if (!paired) for (const operand of [a, b]) this.refuse(operand, reason)
    this.scores.push({ node, queries, keys })
  }
}
