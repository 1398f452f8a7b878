/** @file One sequence that grows: logits of the next token. Knows no text. */

import type { ModelIo } from '../decoder/model-io.ts'
import { SequenceBatch } from '../decoder/sequence-batch.ts'
import type { Session } from '../kernels/session.ts'

/** A sequence of tokens, and the model that continues it. */
export class Decoding {
  private readonly batch: SequenceBatch

  constructor(session: Pick<Session, 'run'>, io: ModelIo) {
    this.batch = new SequenceBatch(session, io, 1)
  }

  /** True where a further token costs one run over one position; false where it costs a run over all tokens. */
  get cached(): boolean {
    return this.batch.cached
  }

  /** Number of tokens so far. */
  get length(): number {
    return this.batch.length
  }

  /**
   * Appends tokens, at least one.
   * @returns logits [vocabulary] of the token after the last of them.
   * @throws E_RUNTIME
   */
  async append(tokens: readonly number[]): Promise<Float32Array> {
    const { logits, vocabulary, startOf } = await this.batch.append(BigInt64Array.from(tokens, BigInt))
    return logits.slice(startOf(0), startOf(0) + vocabulary)
  }
}
