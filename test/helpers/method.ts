/** @file Resolved options for tests that call parts of a run. */

import type { Method } from '../../src/quant/terms/options.ts'
import { resolveOptions } from '../../src/quant/terms/resolve-options.ts'

/** A method with the defaults of a run for everything that is not given. */
export function methodOf(given: Partial<Method> & Pick<Method, 'scheme'>): Method {
  const { scheme, learningRate } = given
  // A rate of zero is no option: it is only for parameters that are not learned.
  return { ...resolveOptions({ model: 'model.onnx', scheme, learningRate: learningRate || undefined }), ...given }
}
