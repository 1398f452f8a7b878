/** @file Options of tests: without what the target chooses, which most tests are not about. */

import type { Method } from '../../src/quant/terms/options.ts'
import { resolveOptions } from '../../src/quant/terms/resolve-options.ts'

/** Products in float32, lm_head and embedding as they are, and weights rounded to nearest. Outputs of an earlier run are replaced. */
export const PLAIN = {
  accuracyLevel: 0,
  lmHead: 'float',
  embedding: 'float',
  rounding: 'nearest',
  learnGains: false,
  check: false,
  force: true,
} as const

/** A method with the defaults of a run for everything that is not given, at accuracy level 0. */
export function methodOf(given: Partial<Method> & Pick<Method, 'scheme'>): Method {
  const { scheme, learningRate } = given
  // A rate of zero is no option: it is only for parameters that are not learned.
  const options = { ...PLAIN, model: 'model.onnx', scheme, learningRate: learningRate || undefined }
  return { ...resolveOptions(options), ...given }
}
