/** @file Site: a node input where a constant or an activation is read. */

import type { Node } from '../../graph/ir.ts'

/** A constant that a node of the working copy reads at one place: a gain or a bias. */
export interface Site {
  readonly node: Node
  readonly input: number
}

export const sameSite = (a: Site, b: Site): boolean => a.node === b.node && a.input === b.input
