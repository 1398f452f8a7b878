/** @file Pass: turns float values of other types into float32, the type of the working copy. */

import type { ValuePass } from './pass.ts'

export const FLOAT32: ValuePass = {
  name: 'cast to float32',
  after: ['drop no-ops'],
  replace: (state, value) => state.toFloat32(value),
}
