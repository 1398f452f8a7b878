/** @file Logits of a model file, computed by onnxruntime, for comparison with those of a quantized file. */

import { dirname } from 'node:path'
import { feedsFor } from '../../src/decoder/feeds.ts'
import { type ModelIo, describeIo } from '../../src/decoder/model-io.ts'
import { readFloats } from '../../src/kernels/float16.ts'
import { openModel, type SessionOptions } from '../../src/kernels/session.ts'

export interface LogitsOptions {
  readonly batch?: number
  readonly tokens?: number
  /** Value of use_cache_branch. */
  readonly flag?: number
  readonly vocab?: number
}

/** Token ids of `batch` different sequences. */
export const someTokens = (batch: number, tokens: number, vocab: number): BigInt64Array =>
  BigInt64Array.from({ length: batch * tokens }, (_, i) => BigInt((i * 31 + Math.floor(i / tokens) * 7 + 5) % vocab))

/** Logits [batch, tokens, vocabulary] for a prompt. */
export async function logitsOf(
  path: string,
  { batch = 1, tokens = 12, flag, vocab = 96 }: LogitsOptions = {},
  options: SessionOptions = {},
): Promise<Float32Array> {
  const session = await openModel(path, options)
  try {
    const io: ModelIo = describeIo(session, dirname(path))
    const feeds = feedsFor(io, someTokens(batch, tokens, vocab), batch, tokens)
    const branch = io.useCacheBranch
    if (branch !== undefined && flag !== undefined)
      feeds[branch] = { dtype: 'bool', dims: [1], data: Uint8Array.of(flag) }
    const outputs = await session.run(feeds, [io.logits.name])
    return readFloats(outputs[io.logits.name]!)
  } finally {
    await session.release()
  }
}

/** Largest difference between two arrays of logits, as a part of the range of the first. */
export function relativeError(expected: Float32Array, got: Float32Array): number {
  const worst = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - got[i]!)), 0)
  const range = expected.reduce((a, b) => Math.max(a, b)) - expected.reduce((a, b) => Math.min(a, b))
  return got.length === expected.length ? worst / range : NaN
}
