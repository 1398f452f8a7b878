/** @file Logits of the last token from one file, with the KV cache of the tokens before it from another. */

import { feedsFor, nextPast } from '../../src/decoder/feeds.ts'
import { describeIo } from '../../src/decoder/model-io.ts'
import { readFloats } from '../../src/kernels/float16.ts'
import type { Session } from '../../src/kernels/session.ts'

/**
 * Logits of the last token: `prompt` runs all tokens but that one, `step` goes on from its cache.
 * @param folder of the configuration of both.
 */
export async function continued(
  prompt: Session,
  step: Session,
  tokens: BigInt64Array,
  folder: string,
): Promise<Float32Array> {
  const before = tokens.length - 1
  const [promptIo, io] = [describeIo(prompt, folder), describeIo(step, folder)]
  const presents = io.past.map(({ present }) => present!)
  const cache = await prompt.run(feedsFor(promptIo, tokens.slice(0, before), 1, before), presents)
  const feeds = feedsFor(io, tokens.slice(before), 1, 1, nextPast(io, cache, before))
  const { [io.logits.name]: logits } = await step.run(feeds, [io.logits.name])
  return readFloats(logits!).slice(-io.vocabSize!)
}

/** Largest difference, as a part of the range of the expected logits. */
export function differenceOfRange(got: Float32Array, expected: Float32Array): number {
  const range = Math.max(...expected) - Math.min(...expected)
  return Math.max(...expected.map((value, i) => Math.abs(value - got[i]!))) / range
}
