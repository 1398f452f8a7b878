/** @file Options, events and report of `generate`. Knows no model. */

import type { DeviceChoice } from '../../kernels/device.ts'
import { usageError } from '../../errors.ts'
import { option } from '../../option-mark.ts'
import { checkOptions, DEVICE, oneOf, type Rule, type Rules, TEXT, wholeNumber } from './check-options.ts'

/** Options of `generate`. An option that is absent or undefined has its default. */
export interface GenerateOptions {
  /** An .onnx file, or a folder with one. */
  readonly model: string
  /** Text to continue. */
  readonly prompt: string
  /** Another model, with the same vocabulary, that continues the same prompt. */
  readonly compare?: string | undefined
  /** A model or folder whose tokenizer is used (default: the first that is beside one of the models). */
  readonly tokenizer?: string | undefined
  /** Tokens to write at most (default: 128). */
  readonly maxTokens?: number | undefined
  /** 0 takes the likeliest token each time; above 0 draws from softmax(logits / temperature) (default: 0, or 1 with `topK` or `topP`). */
  readonly temperature?: number | undefined
  /** Draw only from the likeliest this many tokens. */
  readonly topK?: number | undefined
  /** Draw only from the likeliest tokens that together have at least this probability. */
  readonly topP?: number | undefined
  /** Seed of what is drawn (default: 0). */
  readonly seed?: number | undefined
  /** Threads (default: as many as cores). */
  readonly threads?: number | undefined
  /** Device for the computation, as for `evaluate`. */
  readonly device?: DeviceChoice | undefined
  /** Products of files with DequantizeLinear, as for `evaluate`. */
  readonly qdqAccuracyLevel?: 0 | 4 | undefined
}

const NOT_NEGATIVE: Rule = {
  holds: value => typeof value === 'number' && Number.isFinite(value) && value >= 0,
  says: 'takes a number from 0 up',
}

const PROBABILITY: Rule = {
  holds: value => typeof value === 'number' && value > 0 && value <= 1,
  says: 'is above 0 and at most 1',
}

export const GENERATE_RULES: Rules<GenerateOptions> = {
  model: TEXT,
  prompt: TEXT,
  compare: TEXT,
  tokenizer: TEXT,
  maxTokens: wholeNumber(1),
  temperature: NOT_NEGATIVE,
  topK: wholeNumber(1),
  topP: PROBABILITY,
  seed: wholeNumber(0),
  threads: wholeNumber(1),
  device: DEVICE,
  qdqAccuracyLevel: oneOf([0, 4]),
}

/** Temperature that is meant: an option of drawing alone means drawing. */
export const temperatureOf = ({ temperature, topK, topP }: GenerateOptions): number =>
  temperature ?? (topK === undefined && topP === undefined ? 0 : 1)

/** Refuses options that cannot be, or that would have no effect. @throws E_USAGE with the key of the option. */
export function checkGenerateOptions(given: GenerateOptions): void {
  checkOptions(given, GENERATE_RULES, ['model', 'prompt'])
  if (temperatureOf(given) > 0) return
  const idle = (['topK', 'topP', 'seed'] as const).find(key => given[key] !== undefined)
  if (idle === undefined) return
  throw usageError(
    `${option(idle)} has no effect where the likeliest token is taken each time`,
    `Give ${option('temperature', 1)} too, or leave it out.`,
    idle,
  )
}

/** Emitted when a model has written a piece of text. */
export interface TextEvent {
  readonly type: 'text'
  readonly model: string
  readonly text: string
}

/** Emitted while a model is loaded. */
export interface LoadingEvent {
  readonly type: 'loading'
  readonly model: string
}

/** Reason for the end of a text: an end-of-sequence token, `maxTokens`, or the last position of the model. */
export type Stop = 'end' | 'maxTokens' | 'positions'

/** Text that one model wrote. */
export interface Written {
  readonly model: string
  /** The text behind the prompt. */
  readonly text: string
  /** Its token ids, without the end-of-sequence token. */
  readonly tokens: readonly number[]
  readonly stopped: Stop
  /** Tokens per second behind the first; NaN where there is no more than one. */
  readonly tokensPerSecond: number
  /** Time until the first token was chosen, without loading. */
  readonly firstTokenMs: number
  /** False where the file gives no cache back, so that each token is a run over all tokens before it. */
  readonly cached: boolean
}

/** First token at which two texts part. */
export interface Parting {
  /** Number of tokens before it, which are the same. */
  readonly index: number
  /** The token of each; null where that text has ended. */
  readonly tokens: readonly [number | null, number | null]
  /** Their texts. */
  readonly texts: readonly [string | null, string | null]
}

export interface GenerateReport extends Written {
  readonly prompt: string
  /** Token ids of the prompt as they were fed, special tokens included. */
  readonly promptTokens: readonly number[]
  /** Text of the other model. */
  readonly compare?: Written
  /** Absent where both wrote the same tokens, or one model was asked for. */
  readonly parting?: Parting
  /** Deviations from what was asked for. */
  readonly notes?: readonly string[]
}
