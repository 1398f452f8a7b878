/** @file Facts about rows that a model chooses at run time. */

import type { Value } from '../ir.ts'

/** Rows that one NonZero chose. */
export interface Selection {
  /** Mask of the chosen rows: bool [rows]. */
  readonly chosen: Value
  /** Index of the row among the two coordinates of NonZero. The other coordinate is looked up for each row. */
  readonly rowCoordinate: number
}

/** A value with one entry per row of a selection. */
export interface Rows {
  readonly selection: Selection
  readonly axis: number
  /** Axis of the coordinates, for values that hold them as NonZero gave them. */
  readonly coordinates?: number | undefined
  /** The one coordinate that the value holds, if it holds nothing else. */
  readonly coordinate?: number | undefined
}

/** Values of a working copy that hold chosen rows. `undefined`: rows were put back, and their trail ends here. */
export type RowMap = Map<Value, Rows | undefined>
