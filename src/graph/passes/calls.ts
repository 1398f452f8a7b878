/** @file Calls of the functions of a file: limits of their depth and size, refusal of circles. */

import { QuantError } from '../../errors.ts'
import type { LocalFunction, Node } from '../ir.ts'
import { MAX_CALL_DEPTH, MAX_NODES } from '../limits.ts'

/**
 * Number of nodes that a call of each function stands for, with the functions it calls written out. Calls in a circle count as one node,
 * and so do calls below the greatest depth.
 */
function writtenOutSizes(functions: ReadonlyMap<string, LocalFunction>): ReadonlyMap<string, number> {
  const sizes = new Map<string, number>()
  const sizeOf = (kind: string, depth: number): number => {
    const local = functions.get(kind)
    if (local === undefined || depth > MAX_CALL_DEPTH) return 1
    const known = sizes.get(kind)
    if (known !== undefined) return known
    sizes.set(kind, 1)
    const size = local.body.nodes.reduce((sum, node) => sum + sizeOf(node.kind, depth + 1), 0)
    sizes.set(kind, size)
    return size
  }
  for (const kind of functions.keys()) sizeOf(kind, 0)
  return sizes
}

/** The calls that are being written out, and the number of nodes of all calls so far. */
export class Calls {
  private readonly open = new Set<string>()
  private readonly sizes: ReadonlyMap<string, number>
  private written = 0

  constructor(functions: ReadonlyMap<string, LocalFunction>) {
    this.sizes = writtenOutSizes(functions)
  }

  /** Begins a call. @throws E_NOT_ONNX for a function that calls itself; E_TOO_LARGE, before anything of it is copied. */
  enter({ kind, name }: Node): void {
    if (this.open.has(kind)) throw new QuantError('E_NOT_ONNX', `the function ${kind} calls itself`)
    const hint = 'Export the model with its functions inlined.'
    if (this.open.size === MAX_CALL_DEPTH)
      throw new QuantError(
        'E_TOO_LARGE',
        `functions call functions deeper than ${MAX_CALL_DEPTH}, the last ${kind}`,
        hint,
      )
    if (this.open.size === 0) this.written += this.sizes.get(kind) ?? 1
    if (this.written > MAX_NODES)
      throw new QuantError(
        'E_TOO_LARGE',
        `with its functions written out, as far as ${kind} "${name}", the graph has more than ${MAX_NODES} nodes`,
        hint,
      )
    this.open.add(kind)
  }

  /** Ends a call. */
  leave({ kind }: Node): void {
    this.open.delete(kind)
  }
}
