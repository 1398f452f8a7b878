/** @file Errors of a device that fails while a run is under way. The CPU can always go on. */

import { isMemoryError, memoryError, messageOf, QuantError } from '../errors.ts'
import { option } from '../option-mark.ts'
import type { Device } from './device.ts'
import { knownProblem, USE_CPU } from './device-errors.ts'

/** Hint for work that a device did not finish. */
export const goOnOnCpu = (device: Device): string =>
  `The same command with ${option('device', 'cpu')} goes on without ${device}; finished blocks are kept.`

/**
 * Error for a program that did not load or run.
 * @param did, failed the deed for both endings: 'ran MatMul "m"', 'could not run MatMul "m": reason'.
 * @returns E_MEMORY; E_DEVICE for a fault that devices other than the CPU are known for; else E_RUNTIME.
 */
export function programError(device: Device, did: string, failed: string, cause: unknown): QuantError {
  const known = device === 'cpu' ? undefined : knownProblem(device, failed)
  if (!known && isMemoryError(messageOf(cause))) return memoryError(`onnxruntime ${did}`, cause)
  if (device === 'cpu') return new QuantError('E_RUNTIME', `onnxruntime ${failed}`, undefined, { cause })
  return new QuantError(
    known ? 'E_DEVICE' : 'E_RUNTIME',
    `${device}${known ? `: ${known.problem}` : ''}: onnxruntime ${failed}`,
    [...(known?.remedy ?? []).filter(step => step !== USE_CPU), goOnOnCpu(device)].join(' '),
    { cause },
  )
}
