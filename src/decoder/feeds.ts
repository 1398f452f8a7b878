/** @file The tensors to feed a decoder, for the prompt (prefill) and for one token after it (decode). Knows no session and no text. */

import { internalError } from '../errors.ts'
import { byteLength, type DType } from '../graph/dtype.ts'
import { elementCount, type Tensor, tensorOf } from '../graph/tensor.ts'
import type { Tensors } from '../kernels/session.ts'
import type { ModelIo, Port } from './model-io.ts'

/** The KV cache of an earlier run. */
export interface Past {
  /** Tokens it covers. The tensors of sliding windows are rings and may be longer or shorter. */
  readonly length: number
  /** By name of the past input. */
  readonly tensors: Tensors
}

function integers(port: Port, dims: readonly number[], values: BigInt64Array): Tensor {
  switch (port.dtype) {
    case 'int64':
      return tensorOf('int64', dims, values)
    case 'int32':
      return tensorOf('int32', dims, Int32Array.from(values, Number))
    case 'bool':
      return tensorOf('bool', dims, Uint8Array.from(values, Number))
    default:
      throw internalError(`input "${port.name}" was bound although it is ${port.dtype}`)
  }
}

function zeros(dtype: DType, dims: readonly number[]): Tensor {
  return { dtype, dims, data: new Uint8Array(byteLength(dtype, elementCount(dims))) }
}

/** Number of sequences in a run that is to have `wanted`: the fixed batch, where there is one. */
export const rowsOf = ({ batch }: ModelIo, wanted: number): number => batch ?? wanted

/** Number of runs for `sequences`: at the model's fixed batch, or with one sequence each. */
export const runsFor = ({ batch = 1 }: ModelIo, sequences: number): number => Math.ceil(sequences / batch)

/** `tokens` [batch, seqLen] with the last sequence repeated to [rows, seqLen]. */
function repeated(tokens: BigInt64Array, batch: number, rows: number): BigInt64Array {
  if (rows < batch) throw internalError(`${batch} sequences for a model that takes ${rows}`)
  if (rows === batch) return tokens
  const seqLen = tokens.length / batch
  const all = new BigInt64Array(rows * seqLen)
  all.set(tokens)
  for (let row = batch; row < rows; row++) all.set(tokens.subarray(-seqLen), row * seqLen)
  return all
}

/**
 * Tensors to feed for `batch` sequences of `seqLen` tokens, without padding. For a model with a fixed batch the last sequence is
 * repeated. The logits then have `rowsOf` rows; rows after the first `batch` mean nothing.
 * @param tokens [batch, seqLen] token ids.
 * @param past the cache after earlier tokens (decode); absent: the cache starts empty (prefill).
 * @param logitsToKeep number of positions, counted from the end, that need logits; 0 = all. Few models have this input.
 */
export function feedsFor(
  io: ModelIo,
  tokens: BigInt64Array,
  batch: number,
  seqLen: number,
  past?: Past,
  logitsToKeep: number = 0,
): Tensors {
  if (tokens.length !== batch * seqLen) throw internalError(`${tokens.length} tokens are not [${batch}, ${seqLen}]`)
  const pastLength = past?.length ?? 0
  const total = pastLength + seqLen
  const rows = rowsOf(io, batch)
  const feeds: Tensors = {
    [io.inputIds.name]: integers(io.inputIds, [rows, seqLen], repeated(tokens, batch, rows)),
  }
  if (io.attentionMask) {
    const mask = new BigInt64Array(rows * total).fill(1n)
    feeds[io.attentionMask.name] = integers(io.attentionMask, [rows, total], mask)
  }
  if (io.positionIds) {
    const dims = [io.sharedPositions ? 1 : rows, seqLen]
    const positions = BigInt64Array.from({ length: elementCount(dims) }, (_, i) => BigInt(pastLength + (i % seqLen)))
    feeds[io.positionIds.name] = integers(io.positionIds, dims, positions)
  }
  for (const { name, dtype, heads, headDim, capacity } of io.past) {
    feeds[name] = past?.tensors[name] ?? zeros(dtype, [rows, heads, capacity, headDim])
  }
  if (io.logitsToKeep) {
    feeds[io.logitsToKeep.name] = integers(
      io.logitsToKeep,
      io.logitsToKeep.dims,
      BigInt64Array.of(BigInt(logitsToKeep)),
    )
  }
  if (io.useCacheBranch !== undefined) {
    feeds[io.useCacheBranch] = tensorOf('bool', [1], Uint8Array.of(past === undefined ? 0 : 1))
  }
  return feeds
}

/** The cache for the next run, from the `outputs` of one; it covers `length` tokens. @throws E_INTERNAL unless `hasCache(io)`. */
export function nextPast(io: ModelIo, outputs: Tensors, length: number): Past {
  const tensors: Tensors = {}
  for (const { name, present } of io.past) {
    const tensor = present === undefined ? undefined : outputs[present]
    if (tensor === undefined) throw internalError(`the run gave nothing for the cache input "${name}"`)
    tensors[name] = tensor
  }
  return { length, tensors }
}
