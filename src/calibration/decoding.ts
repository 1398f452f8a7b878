/** @file One sequence that grows: logits of the next token, from the KV cache where a run gives it back. Knows no text. */

import { feedsFor, nextPast, type Past, rowsOf } from '../decoder/feeds.ts'
import { hasCache, type ModelIo } from '../decoder/model-io.ts'
import { internalError } from '../errors.ts'
import { readFloats } from '../kernels/float16.ts'
import type { Session } from '../kernels/session.ts'

/** A sequence of tokens, and the model that continues it. */
export class Decoding {
  /** True where a further token costs one run over one position; false where it costs a run over all tokens. */
  readonly cached: boolean
  private readonly session: Pick<Session, 'run'>
  private readonly io: ModelIo
  private readonly tokens: bigint[] = []
  private past: Past | undefined

  constructor(session: Pick<Session, 'run'>, io: ModelIo) {
    this.session = session
    this.io = io
    this.cached = hasCache(io)
  }

  /** Number of tokens so far. */
  get length(): number {
    return this.tokens.length
  }

  /**
   * Appends tokens, at least one. A file with a fixed length gets token 0 behind them: attention looks back only.
   * @returns logits [vocabulary] of the token after the last of them.
   * @throws E_RUNTIME
   */
  async append(tokens: readonly number[]): Promise<Float32Array> {
    if (tokens.length === 0) throw internalError('nothing to append to the sequence')
    const { io, session } = this
    for (const token of tokens) this.tokens.push(BigInt(token))
    const from = this.past?.length ?? 0
    const count = this.tokens.length - from
    const width = io.seqLen ?? count
    const fed = new BigInt64Array(width)
    fed.set(this.tokens.slice(from))
    const fetches = [io.logits.name, ...(this.cached ? io.past.map(({ present }) => present!) : [])]
    // With a fixed length the row of the last token is not the last row.
    const outputs = await session.run(feedsFor(io, fed, 1, width, this.past, io.seqLen === undefined ? 1 : 0), fetches)
    const tensor = outputs[io.logits.name]!
    const vocabulary = tensor.dims.at(-1)!
    const logits = readFloats(tensor)
    const rows = logits.length / rowsOf(io, 1) / vocabulary
    const row = (io.seqLen === undefined ? rows : count) - 1
    if (this.cached) this.past = nextPast(io, outputs, this.tokens.length)
    return logits.slice(row * vocabulary, (row + 1) * vocabulary)
  }
}
