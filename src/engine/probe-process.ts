/** @file The process that tries a device, which may crash or hang. What its libraries print on stderr belongs to the answer. */

import { messageOf } from '../errors.ts'
import type { Device } from '../kernels/device.ts'
import { serveParent } from '../process/serve-parent.ts'

/** Answer of the process: the words of the failure, if it is one. */
export interface ProbeAnswer {
  readonly failure: string | undefined
}

const answer = (failure: string | undefined) => process.send?.({ failure } satisfies ProbeAnswer)

serveParent('omniquant probe')

// Loaded only now: onnxruntime itself may be what does not load.
import('../kernels/probe.ts')
  .then(({ probe }) => probe(process.argv[2] as Device))
  .then(
    () => answer(undefined),
    (error: unknown) => answer(messageOf(error)),
  )
