/** @file Target of a builder: names, types and opset of what it writes. Programs are defined here, the user's graph in graph-writer.ts. */

import type { DType } from './dtype.ts'
import { inferNode } from './infer-shapes.ts'
import { type Graph, type Node, PROGRAM_OPSET, type Value } from './ir.ts'
import type { Names } from './names.ts'

export interface OpOptions {
  readonly domain?: string
  /** Stem of the output's name in a program; the op type when absent. */
  readonly name?: string
  /** Meaning of the output, such as "row_max": names it in the user's graph. Programs name values by their ops. */
  readonly role?: string
  /** Type of the outputs where no shapes are inferred; that of the first input when absent. */
  readonly dtype?: DType
}

/** Naming, typing and opset of a graph that a builder writes to. */
export interface Target {
  /** Version of ai.onnx. */
  readonly opset: number
  /** A free name for an output. */
  valueName(opType: string, options: OpOptions): string
  /** A name for a node, whose first output is called `output`. */
  nodeName(opType: string, options: OpOptions, output: string): string
  /** A free name for a constant. */
  constantName(name: string): string
  /** A free name for a constant that is shared: `key` tells it from all others, `short` says its kind. */
  sharedName(key: string, short: string): string
  /** Appends a node and sets the types of its outputs. */
  append(node: Node, dtype: DType | undefined): void
  /** Result of `make` for `key`, made once. */
  once(key: string, make: (key: string) => Value): Value
}

/** Values by key; each is made once. */
export class MadeOnce {
  private readonly values = new Map<string, Value>()

  once(key: string, make: (key: string) => Value): Value {
    const known = this.values.get(key)
    if (known) return known
    const value = make(key)
    this.values.set(key, value)
    return value
  }
}

/** Target for a program: values are named by their ops; types and static shapes are inferred. */
export function programTarget(graph: Graph, names: Names): Target {
  const shared = new MadeOnce()
  return {
    opset: PROGRAM_OPSET,
    valueName: (opType, { name }) => names.fresh(name ?? opType.replace(/^[A-Z]+/, capitals => capitals.toLowerCase())),
    nodeName: (_opType, _options, output) => output,
    constantName: name => names.fresh(name),
    sharedName: (_key, short) => names.fresh(short),
    append: node => {
      inferNode(node)
      graph.nodes.push(node)
    },
    once: (key, make) => shared.once(key, make),
  }
}
