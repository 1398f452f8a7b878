/** @file Speed of a model file, float or quantized. Knows nothing of blocks and schemes. */

import { measureSpeed, type Speed } from '../calibration/speed.ts'
import { describeIo } from '../decoder/model-io.ts'
import { loadModel } from '../graph/onnx-file/load.ts'
import { deviceOf } from '../kernels/device.ts'
import { openModel } from '../kernels/session.ts'
import { withinCores } from '../kernels/threads.ts'
import type { SpeedOptions } from './terms/read-options.ts'

/** Measures the speed of one sequence, prefill and decode. @throws E_SEQ_LEN, E_RUNTIME, what loadModel and describeIo throw. */
export async function measureModelSpeed(options: SpeedOptions): Promise<Speed> {
  const { threads, device, qdqAccuracyLevel, seqLen } = options
  const model = loadModel(options.model)
  const io = describeIo(model)
  const { session: settings } = withinCores({ threads, device: deviceOf(device) })
  const session = await openModel(model.path!, {
    ...settings,
    ...(qdqAccuracyLevel !== undefined && { qdqAccuracyLevel }),
  })
  try {
    return await measureSpeed(session, io, seqLen)
  } finally {
    await session.release()
  }
}
