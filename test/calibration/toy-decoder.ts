/** @file A language model of a few lines whose next token depends on all tokens before it, with or without a cache. */

import { describeIo, type ModelIo } from '../../src/decoder/model-io.ts'
import { QuantError } from '../../src/errors.ts'
import { floatTensor, readNumbers } from '../../src/graph/tensor.ts'
import type { Session, Tensors, ValueInfo } from '../../src/kernels/session.ts'

export const VOCABULARY = 5

/** Logits after `prefix`: made up, but of every token in it and of where it stands. */
export function toyLogits(prefix: readonly number[]): number[] {
  const state = prefix.reduce((sum, token, i) => sum + (token + 1) * (i + 3), 0)
  return Array.from({ length: VOCABULARY }, (_, v) => 2 * Math.sin(state * (v + 1)))
}

export interface ToyDecoder extends Pick<Session, 'run'> {
  readonly io: ModelIo
  /** [batch, width] of every run. */
  readonly runs: number[][]
}

const port = (name: string, dtype: ValueInfo['dtype'], shape: ValueInfo['shape']): ValueInfo => ({ name, dtype, shape })

/** `maxBatch`: runs of more sequences fail, as some exported files do. The cache is simply the tokens. */
export function toyDecoder({ cached, maxBatch = Infinity }: { cached: boolean; maxBatch?: number }): ToyDecoder {
  const past = port('past_key_values.0.key', 'float32', ['b', 1, 'p', 1])
  const present = port('present.0.key', 'float32', ['b', 1, 't', 1])
  const io = describeIo({
    inputs: [
      port('input_ids', 'int64', ['b', 's']),
      port('attention_mask', 'int64', ['b', 't']),
      port('position_ids', 'int64', ['b', 's']),
      ...(cached ? [past] : []),
    ],
    outputs: [port('logits', 'float32', ['b', 's', VOCABULARY]), ...(cached ? [present] : [])],
  })
  const runs: number[][] = []
  const run = async (feeds: Tensors): Promise<Tensors> => {
    const ids = feeds['input_ids']!
    const [batch, width] = ids.dims as [number, number]
    runs.push([batch, width])
    if (batch > maxBatch) throw new QuantError('E_RUNTIME', `batch ${batch}`)
    const tokens = readNumbers(ids)
    const held = feeds[past.name]
    const before = held?.dims[2] ?? 0
    const cache = held ? readNumbers(held) : []
    const total = before + width
    const expected = Array.from({ length: batch * width }, (_, i) => before + (i % width))
    if (readNumbers(feeds['position_ids']!).join() !== expected.join()) throw new Error('wrong positions')
    if (feeds['attention_mask']!.dims.join() !== `${batch},${total}`) throw new Error('wrong mask')
    const rows = Array.from({ length: batch }, (_, b) => [
      ...cache.slice(b * before, (b + 1) * before),
      ...tokens.slice(b * width, (b + 1) * width),
    ])
    const logits = rows.flatMap(row => Array.from({ length: width }, (_, t) => toyLogits(row.slice(0, before + t + 1))))
    return {
      logits: floatTensor([batch, width, VOCABULARY], logits.flat()),
      [present.name]: floatTensor([batch, 1, total, 1], rows.flat()),
    }
  }
  return { io, runs, run }
}
