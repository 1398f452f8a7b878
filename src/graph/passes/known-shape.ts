/** @file Shape of a value, if all of its dimensions are known. */

import type { Value } from '../ir.ts'
import type { Shape } from '../shape.ts'

export const knownShape = (value: Value | undefined): Shape | undefined =>
  value?.shape?.every(dim => typeof dim === 'number') ? (value.shape as Shape) : undefined
