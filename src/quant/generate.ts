/** @file Text that a model writes behind a prompt, and where the texts of two models part. Knows nothing of blocks and schemes. */

import { dirname } from 'node:path'
import { performance } from 'node:perf_hooks'
import { Decoding } from '../calibration/decoding.ts'
import { Random } from '../calibration/rng.ts'
import { chooseToken, type Sampling } from '../calibration/sampling.ts'
import { TextStream } from '../calibration/text-stream.ts'
import { loadTokenizer, type Tokenizer } from '../calibration/tokenizer.ts'
import { checkSameTokens, checkStatedWidths, statedWidth, tokenizerFile } from '../calibration/vocabulary.ts'
import { modelFolders } from '../decoder/model-folder.ts'
import { describeIo, type ModelIo } from '../decoder/model-io.ts'
import { stopTokens } from '../decoder/stop-tokens.ts'
import { QuantError } from '../errors.ts'
import type { Model } from '../graph/ir.ts'
import { loadModel } from '../graph/onnx-file/load.ts'
import { deviceOf } from '../kernels/device.ts'
import { openModel, type Session, type SessionOptions } from '../kernels/session.ts'
import { withinCores } from '../kernels/threads.ts'
import {
  checkGenerateOptions,
  type GenerateOptions,
  type GenerateReport,
  type LoadingEvent,
  type Parting,
  temperatureOf,
  type TextEvent,
  type Written,
} from './terms/generate-options.ts'

/** Default number of tokens that are written. */
const DEFAULT_TOKENS = 128

/** Connections of a generation to its caller. */
export interface Generating {
  readonly onEvent?: ((event: TextEvent | LoadingEvent) => void) | undefined
  /** Ends the generation between two tokens. */
  readonly signal?: AbortSignal | undefined
}

interface Candidate {
  readonly model: Model
  readonly io: ModelIo
}

/** Terms of a text. */
interface Course {
  readonly prompt: readonly number[]
  readonly maxTokens: number
  readonly sampling: Sampling
  readonly seed: number
  readonly tokenizer: Tokenizer
  readonly hooks: Generating
}

/** Longest sequence of a model. */
const positionsOf = ({ seqLen, maxPositions }: ModelIo): number =>
  Math.min(seqLen ?? Infinity, maxPositions ?? Infinity)

/** Token ids to start from, as the tokenizer's template has them; the begin-of-text token alone for an empty prompt. */
function promptTokens(tokenizer: Tokenizer, prompt: string): number[] {
  const tokens = tokenizer.encode(prompt, { special: true })
  if (tokens.length > 0) return tokens
  if (tokenizer.bosTokenId !== undefined) return [tokenizer.bosTokenId]
  throw new QuantError(
    'E_USAGE',
    'the prompt is empty, and the model has no begin-of-text token to start from',
    'Give a prompt of at least one token.',
    { option: 'prompt' },
  )
}

/** @throws E_SEQ_LEN, E_CALIBRATION */
function checkPrompt({ model, io }: Candidate, prompt: readonly number[]): void {
  const positions = positionsOf(io)
  if (prompt.length > positions)
    throw new QuantError(
      'E_SEQ_LEN',
      `the prompt has ${prompt.length} tokens, more than the ${positions} positions of ${model.path}`,
      'Give a shorter prompt.',
    )
  const width = statedWidth(model.graph, io.logits.name)
  const wrong = width === undefined ? undefined : prompt.find(token => token >= width)
  if (wrong !== undefined)
    throw new QuantError(
      'E_CALIBRATION',
      `token ${wrong} of the prompt is outside the vocabulary of ${width} of ${model.path}`,
      'The tokenizer belongs to another model.',
    )
}

/** Lets an open model write. @param stops tokens that end the text. */
async function write(
  session: Pick<Session, 'run'>,
  { model, io }: Candidate,
  stops: ReadonlySet<number>,
  { prompt, maxTokens, sampling, seed, tokenizer, hooks }: Course,
): Promise<Written> {
  const path = model.path!
  const random = new Random(seed)
  const stream = new TextStream(tokenizer, prompt)
  const decoding = new Decoding(session, io)
  const room = positionsOf(io) - prompt.length
  const tokens: number[] = []
  let text = ''
  const say = (piece: string): void => {
    if (piece === '') return
    text += piece
    hooks.onEvent?.({ type: 'text', model: path, text: piece })
  }
  const started = performance.now()
  let logits = await decoding.append(prompt)
  let token = chooseToken(logits, random, sampling)
  const first = performance.now()
  let stopped: Written['stopped'] | undefined = stops.has(token) ? 'end' : undefined
  while (stopped === undefined) {
    hooks.signal?.throwIfAborted()
    tokens.push(token)
    say(stream.add(token))
    // The last position gives logits too, so one token more than there is room for can be written.
    if (tokens.length === maxTokens) stopped = 'maxTokens'
    else if (tokens.length > room) stopped = 'positions'
    else {
      logits = await decoding.append([token])
      token = chooseToken(logits, random, sampling)
      if (stops.has(token)) stopped = 'end'
    }
  }
  const elapsed = performance.now() - first
  say(stream.end())
  const steps = decoding.length - prompt.length
  return {
    model: path,
    text,
    tokens,
    stopped,
    tokensPerSecond: steps === 0 ? NaN : (steps / elapsed) * 1000,
    firstTokenMs: first - started,
    cached: decoding.cached,
  }
}

async function openAndWrite(one: Candidate, settings: SessionOptions, course: Course): Promise<Written> {
  const path = one.model.path!
  course.hooks.signal?.throwIfAborted()
  course.hooks.onEvent?.({ type: 'loading', model: path })
  const named = stopTokens(modelFolders(dirname(path)))
  const { eosTokenId } = course.tokenizer
  const stops = new Set(named.length > 0 ? named : eosTokenId === undefined ? [] : [eosTokenId])
  const session = await openModel(path, settings)
  try {
    return await write(session, one, stops, course)
  } finally {
    await session.release()
  }
}

/** First token at which two texts part; undefined where they are the same. */
export function partingOf(
  a: readonly number[],
  b: readonly number[],
  tokenizer: Pick<Tokenizer, 'decode'>,
): Parting | undefined {
  const longest = Math.max(a.length, b.length)
  const index = Array.from({ length: longest }, (_, i) => i).find(i => a[i] !== b[i])
  if (index === undefined) return undefined
  const tokens = [a[index] ?? null, b[index] ?? null] as const
  const textOf = (token: number | null) => (token === null ? null : tokenizer.decode([token]))
  return { index, tokens, texts: [textOf(tokens[0]), textOf(tokens[1])] }
}

/**
 * Continues a prompt: greedy, or drawn by seed. Where two models are compared, one writes after the other, from the same tokens and seed.
 * @throws E_USAGE, E_TOKENIZER, E_VOCABULARY, E_SEQ_LEN (the prompt is too long), E_CALIBRATION (a token outside the vocabulary), what
 * loadModel and describeIo throw; E_RUNTIME; the AbortSignal's reason when aborted.
 */
export async function generateText(options: GenerateOptions, hooks: Generating = {}): Promise<GenerateReport> {
  checkGenerateOptions(options)
  const { prompt: text, compare, topK, topP, threads, device, qdqAccuracyLevel } = options
  const { session, notes } = withinCores({ threads, device: deviceOf(device) })
  const settings = { ...session, ...(qdqAccuracyLevel !== undefined && { qdqAccuracyLevel }) }
  const candidates = [options.model, ...(compare === undefined ? [] : [compare])].map((path): Candidate => {
    const model = loadModel(path)
    return { model, io: describeIo(model) }
  })
  const given = options.tokenizer === undefined ? [] : [options.tokenizer]
  const places = [...given, ...candidates.map(({ model }) => model.path!)]
  const files = places.map(tokenizerFile).filter(file => file !== undefined)
  if (candidates.length > 1) {
    checkStatedWidths(
      candidates.map(({ model, io }) => ({ model: model.path!, vocabulary: statedWidth(model.graph, io.logits.name) })),
    )
    checkSameTokens(files)
  }
  const tokenizer = loadTokenizer(given[0] ?? files[0] ?? places[0]!)
  const prompt = promptTokens(tokenizer, text)
  for (const each of candidates) checkPrompt(each, prompt)
  const course: Course = {
    prompt,
    maxTokens: options.maxTokens ?? DEFAULT_TOKENS,
    sampling: { temperature: temperatureOf(options), topK, topP },
    seed: options.seed ?? 0,
    tokenizer,
    hooks,
  }
  const written: Written[] = []
  for (const each of candidates) written.push(await openAndWrite(each, settings, course))
  const [first, other] = written as [Written, Written | undefined]
  const parting = other && partingOf(first.tokens, other.tokens, tokenizer)
  return {
    ...first,
    prompt: text,
    promptTokens: prompt,
    ...(other && { compare: other }),
    ...(parting && { parting }),
    ...(notes.length > 0 && { notes }),
  }
}
