/** @file The writer of a working copy: a Builder that can take nodes back and keeps the facts that several rewrites share. */

import { Builder } from '../builder.ts'
import type { Value } from '../ir.ts'
import type { RowMap } from './rows.ts'

export class RewriteBuilder extends Builder {
  /** Rows chosen at run time, by the values that hold them. */
  readonly rows: RowMap = new Map()
  private readonly made = new Map<string, Value>()

  /** The value for `key`, made at its first use: masks and rotary tables that every layer reads. */
  override once(key: string, make: (key: string) => Value): Value {
    const known = this.made.get(key)
    if (known) return known
    const value = make(key)
    this.made.set(key, value)
    return value
  }

  /** Runs `write`. If it throws, takes back the nodes it appended, and the values of `once` that they made. */
  attempt<T>(write: () => T): T {
    const { nodes } = this.graph
    const first = nodes.length
    try {
      return write()
    } catch (error) {
      const removed = new Set(nodes.splice(first))
      for (const [key, { producer }] of this.made) if (producer && removed.has(producer)) this.made.delete(key)
      throw error
    }
  }
}
