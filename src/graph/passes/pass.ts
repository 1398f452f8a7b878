/**
 * @file The kinds of passes that make a working copy, and the state they share. A pass has a name, so that lists of passes can be printed,
 * and says which passes go before it in its list.
 */

import type { Graph, LocalFunction, Node, Value } from '../ir.ts'
import type { RewriteBuilder } from '../rewrites/rewrite-builder.ts'
import type { Tensor } from '../tensor.ts'
import type { Calls } from './calls.ts'

/** Inputs of a node, as values of the working copy. */
export type Inputs = readonly (Value | undefined)[]

/** A working copy that is being made. */
export interface CopyState {
  /** Writer of the working copy. */
  readonly g: RewriteBuilder
  /** Values of the user's graphs -> values of the working copy. */
  readonly values: ReadonlyMap<Value, Value>
  /** Values that depend on constants alone and have not been computed. */
  readonly pending: Set<Value>
  /** Stored weights, and values that only rearrange one. They are never computed. */
  readonly weights: Set<Value>
  /** Functions of the file, by kind. */
  readonly functions: ReadonlyMap<string, LocalFunction>
  /** Function calls whose bodies are being copied. */
  readonly calls: Calls
  /** Opset of the nodes that are being copied. */
  readonly opset: number
  /** The value of the working copy for a value of the user's graph. @throws E_INPUTS when there is none. */
  lookup(value: Value | undefined): Value | undefined
  /** True for values that are known, or can be computed, without the inputs of the graph. */
  isConstant(value: Value | undefined): boolean
  /** The value as float32, if it is of another float type. */
  toFloat32(value: Value): Value
  /** Computes pending values. They become initializers in place. */
  fold(values: ReadonlySet<Value>): Promise<void>
}

interface Pass {
  readonly name: string
  /** Names of passes that must stand before this one in its list. */
  readonly after?: readonly string[]
}

/** A graph to be copied in place of a node. */
export interface Body {
  readonly graph: Graph
  /** Values of the graph that are given; copying stops there. */
  readonly inputs: readonly Value[]
  /** Opset its nodes are written in. */
  readonly opset: number
  /** Called when the body has been copied. */
  readonly leave?: () => void
}

/** Replaces a node of the user's graph by a graph. */
export interface BodyPass extends Pass {
  /** @returns undefined for other nodes. */
  bodyOf(state: CopyState, node: Node): Body | undefined | Promise<Body | undefined>
}

/** A node's outputs as values of the working copy; undefined for outputs that no working copy needs. */
export interface Written {
  readonly outputs: readonly (Value | undefined)[]
}

/** A node to go on with instead. */
export interface Changed {
  readonly node: Node
  readonly inputs: Inputs
}

/** A tensor that stands for a node's only output. */
export interface Known {
  readonly tensor: Tensor
}

/**
 * Writes, changes or refuses one node of the user's graph. Passes are applied in order until one has written the node. Passes go node by
 * node, because they need the shapes of inputs, and shapes are known once the nodes before have been written.
 */
export interface NodePass extends Pass {
  /**
   * @returns undefined to leave the node to the next pass.
   * @throws E_UNSUPPORTED when it needs the elements of an input; the copy then computes constants and applies all passes again.
   */
  apply(state: Pick<CopyState, 'g' | 'opset'>, node: Node, inputs: Inputs): Written | Changed | Known | undefined
}

/** Notes facts about a node that has been written into the working copy. */
export interface FactPass extends Pass {
  note(state: Pick<CopyState, 'g' | 'pending' | 'weights' | 'isConstant'>, written: Node): void
}

/** Replaces a value that has been written by a simpler or safer one. */
export interface ValuePass extends Pass {
  replace(state: Pick<CopyState, 'toFloat32'>, value: Value): Value
}

/** Changes the whole working copy, after all nodes have been written. */
export interface GraphPass extends Pass {
  /** @returns values that were dropped -> the values that stand for them now. */
  apply(
    state: Pick<CopyState, 'g' | 'pending' | 'fold'>,
  ): ReadonlyMap<Value, Value> | Promise<ReadonlyMap<Value, Value>>
}
