/** @file Tasks of the engine, and messages between the two processes: plain data, no words. */

import type { SentError } from '../process/sent-error.ts'
import type { EvaluateReport, MeasuredSpeed } from '../quant/evaluate.ts'
import type { InspectReport } from '../quant/inspected.ts'
import type { GenerateOptions, GenerateReport, LoadingEvent, TextEvent } from '../quant/terms/generate-options.ts'
import type { QuantizeOptions } from '../quant/terms/options.ts'
import type {
  EvaluateEvent,
  EvaluateOptions,
  InspectOptions,
  SpeedEvent,
  SpeedOptions,
} from '../quant/terms/read-options.ts'
import type { QuantizeEvent, QuantizeReport } from '../quant/terms/report.ts'
import type { ChosenDevice } from './choose-device.ts'

/** Options of `quantize`, with the measurement that may follow. */
export interface QuantizeRequest extends QuantizeOptions {
  /** File with text or token ids, to measure the perplexity of both models on. */
  readonly evaluate?: string | undefined
}

/** Part of the report of a task that computes. */
export interface Ran {
  readonly device: ChosenDevice
}

/** Report of `quantize`. */
export interface QuantizeResult extends QuantizeReport, Ran {
  /** Measurements of the output, and of the float model as `against`, where they were asked for. */
  readonly evaluation?: EvaluateReport
}

/** Report of `evaluate`. */
export interface EvaluateResult extends EvaluateReport, Ran {}

/** Report of `generate`. */
export interface GenerateResult extends GenerateReport, Ran {}

/** Options and report of each task. */
export interface Tasks {
  quantize: { readonly options: QuantizeRequest; readonly report: QuantizeResult }
  evaluate: { readonly options: EvaluateOptions; readonly report: EvaluateResult }
  /** Follows an evaluation, for each model in a process of its own. */
  speed: { readonly options: SpeedOptions; readonly report: MeasuredSpeed }
  generate: { readonly options: GenerateOptions; readonly report: GenerateResult }
  inspect: { readonly options: InspectOptions; readonly report: InspectReport }
}

export type TaskName = keyof Tasks

/** A task with its options. */
export type Task = { [Name in TaskName]: { readonly name: Name; readonly options: Tasks[Name]['options'] } }[TaskName]

/** Emitted once, before a task that computes begins. */
export interface DeviceEvent {
  readonly type: 'device'
  readonly device: ChosenDevice
}

/** Progress of a task. */
export type ProgressEvent = DeviceEvent | QuantizeEvent | EvaluateEvent | SpeedEvent | LoadingEvent | TextEvent

/** Messages of the process that works. The last two end it. */
export type EngineMessage =
  | { readonly type: 'event'; readonly event: ProgressEvent }
  | { readonly type: 'report'; readonly report: unknown }
  | { readonly type: 'error'; readonly error: SentError }
