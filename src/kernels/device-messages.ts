/** @file Messages between the process of a run and the processes of its further devices: plain data. */

import type { SentError } from '../process/sent-error.ts'
import type { SessionOptions, Tensors } from './session.ts'

/** Requests, each with a number that the answer repeats. Sessions have the number of the request that made them. */
export type DeviceRequest = { readonly id: number } & (
  | {
      readonly type: 'compile'
      /** ModelProto with all its constants. */
      readonly program: Uint8Array
      readonly options: SessionOptions
      readonly fixed: Tensors
    }
  | { readonly type: 'run'; readonly session: number; readonly feeds: Tensors }
  | { readonly type: 'release'; readonly session: number }
)

export interface DeviceAnswer {
  readonly id: number
  readonly outputs?: Tensors
  readonly error?: SentError
}
