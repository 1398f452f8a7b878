/** @file Start of learning for tests that need names and shapes of parameters only, or set the initial values themselves. */

import { ChannelRanges } from '../../src/quant/learn/channel-ranges.ts'
import type { LearningStart } from '../../src/quant/learn/learnable.ts'
import type { Method } from '../../src/quant/terms/options.ts'

export const noStart = (method: Method): LearningStart => ({
  method,
  frozen: new Set(),
  ranges: new ChannelRanges(),
  weights: {},
})
