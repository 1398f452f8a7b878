/** @file Sequences of one length that grow together: logits of the next tokens, from the KV cache where a run gives it back. Knows no text. */

import { internalError } from '../errors.ts'
import { readFloats } from '../kernels/float16.ts'
import type { Session } from '../kernels/session.ts'
import { feedsFor, nextPast, type Past, rowsOf } from './feeds.ts'
import { hasCache, type ModelIo } from './model-io.ts'

/** Logits of the token that comes next, for every sequence. May share memory with onnxruntime's outputs: not to be written. */
export interface NextLogits {
  /** Row after row, with others between them where the file gives logits for more positions. */
  readonly logits: Float32Array
  /** Logits of a sequence. */
  readonly vocabulary: number
  /** Index of the first logit of a sequence. */
  readonly startOf: (sequence: number) => number
}

/** Sequences of tokens, all of one length, and the model that continues them. */
export class SequenceBatch {
  /** True where a further token costs a run over one position; false where it costs a run over all tokens so far. */
  readonly cached: boolean
  private readonly session: Pick<Session, 'run'>
  private readonly io: ModelIo
  private readonly count: number
  /** Tokens of all sequences at one position each. */
  private readonly columns: BigInt64Array[] = []
  private past: Past | undefined

  /** @param count number of sequences. */
  constructor(session: Pick<Session, 'run'>, io: ModelIo, count: number) {
    this.session = session
    this.io = io
    this.count = count
    this.cached = hasCache(io)
  }

  /** Number of tokens of each sequence so far. */
  get length(): number {
    return this.columns.length
  }

  /**
   * Appends tokens and runs the model. The cache of the run before is fed as onnxruntime gave it, and let go of. A file with a fixed
   * length gets token 0 behind the tokens: attention looks back only.
   * @param tokens [sequences, tokens of each], at least one of each.
   * @throws E_RUNTIME
   */
  async append(tokens: BigInt64Array): Promise<NextLogits> {
    const { io, count, columns } = this
    const added = tokens.length / count
    if (!Number.isInteger(added) || added === 0) throw internalError(`${tokens.length} tokens for ${count} sequences`)
    for (let t = 0; t < added; t++)
      columns.push(BigInt64Array.from({ length: count }, (_, i) => tokens[i * added + t]!))
    const fed = columns.slice(this.past?.length ?? 0)
    const width = io.seqLen ?? fed.length
    const ids = new BigInt64Array(count * width)
    fed.forEach((column, t) => column.forEach((token, i) => (ids[i * width + t] = token)))
    // With a fixed length the last token does not stand at the last position.
    const feeds = feedsFor(io, ids, count, width, this.past, io.seqLen === undefined ? 1 : 0)
    const fetches = [io.logits.name, ...(this.cached ? io.past.map(({ present }) => present!) : [])]
    const outputs = await this.session.run(feeds, fetches)
    if (this.cached) this.past = nextPast(io, outputs, columns.length)
    const tensor = outputs[io.logits.name]!
    const logits = readFloats(tensor)
    // [sequences, width or 1, vocabulary]
    const vocabulary = tensor.dims.at(-1)!
    const perSequence = logits.length / rowsOf(io, count)
    const last = (io.seqLen === undefined ? perSequence / vocabulary : fed.length) - 1
    return { logits, vocabulary, startOf: sequence => sequence * perSequence + last * vocabulary }
  }
}
