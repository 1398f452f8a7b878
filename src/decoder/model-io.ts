/** @file A decoder's inputs and outputs by role, with their sizes and limits. Feeds nothing (feeds.ts). */

import { option } from '../option-mark.ts'
import { dirname } from 'node:path'
import { QuantError } from '../errors.ts'
import { byteLength, type DType } from '../graph/dtype.ts'
import type { Graph, Model, Value } from '../graph/ir.ts'
import type { ValueInfo } from '../kernels/session.ts'
import { bindInputs, type IoValue, type RenamedInput, show } from './bind-inputs.ts'
import { checkCaches, knownSize, presentOf } from './caches.ts'
import { cacheCapacityOf, headDimOf, positionTableLength } from './graph-sizes.ts'
import { type ModelConfig, modelFolders, readModelConfig } from './model-folder.ts'

/** An input or output and the type its tensor has. */
export interface Port {
  readonly name: string
  readonly dtype: DType
}

/** One tensor of the KV cache, [batch, heads, past length, headDim]. */
export interface PastPort extends Port {
  readonly layer: number
  readonly kind: 'key' | 'value'
  readonly heads: number
  readonly headDim: number
  /** Length of the tensor when it holds nothing: 0, or the window of a layer whose cache is a ring. */
  readonly capacity: number
  /** The output that holds this tensor after the run; undefined when the file gives none back. */
  readonly present: string | undefined
}

/** Inputs and outputs of a decoder. */
export interface ModelIo {
  /** Sequences in every run, where the file fixes their number. */
  readonly batch?: number | undefined
  /** Tokens of every sequence, where the file fixes their number. */
  readonly seqLen?: number | undefined
  /** [batch, sequence] */
  readonly inputIds: Port
  /** [batch, past + sequence], ones. */
  readonly attentionMask: Port | undefined
  /** [batch, sequence], or [1, sequence] where `sharedPositions` is true. */
  readonly positionIds: Port | undefined
  readonly sharedPositions?: boolean
  readonly past: readonly PastPort[]
  /** Scalar or [1]; 0 = logits of all positions. */
  readonly logitsToKeep: (Port & { readonly dims: readonly number[] }) | undefined
  /** bool [1], of files that hold a branch with and one without cache. */
  readonly useCacheBranch: string | undefined
  /** [batch, sequence, vocabulary] */
  readonly logits: Port
  readonly vocabSize: number | undefined
  /** Inputs that the exporter gave the names of others. */
  readonly renamed: readonly RenamedInput[]
  /** Longest sequence in tokens, past included. */
  readonly maxPositions: number | undefined
  /** The begin-of-text token, as the configuration files have it. */
  readonly bosTokenId: number | undefined
}

/** The inputs and outputs of a session, or of anything else that knows them. */
export interface IoSource {
  readonly inputs: readonly ValueInfo[]
  readonly outputs: readonly ValueInfo[]
}

/** Heads, and channels of a head: the largest models have 128 and 512. */
const MAX_CACHE_DIM = 2 ** 16

/** Bytes of the rings of sliding windows, all layers together: 32 layers of 4096 positions and 1024 channels have 1 GB. */
const MAX_CACHE_BYTES = 2 ** 32

/** @throws E_TOO_LARGE before the memory is asked for. */
function checkCacheSize(past: readonly PastPort[], batch: number): void {
  let bytes = 0
  for (const { name, dtype, heads, headDim, capacity } of past) {
    bytes += byteLength(dtype, batch * heads * headDim * capacity)
    if (heads <= MAX_CACHE_DIM && headDim <= MAX_CACHE_DIM && bytes <= MAX_CACHE_BYTES) continue
    throw new QuantError(
      'E_TOO_LARGE',
      `the KV cache input "${name}" would be [batch, ${heads}, ${capacity}, ${headDim}], more than any decoder has`,
      'The model or genai_config.json beside it is damaged: export it again.',
    )
  }
}

function isModel(source: Model | IoSource): source is Model {
  return 'graph' in source
}

/** The output that holds logits: by its name, else by its shape [batch, sequence, vocabulary]. */
function findLogits(outputs: readonly IoValue[], config: ModelConfig): IoValue {
  const isFloat = ({ dtype }: IoValue) => dtype === undefined || ['float32', 'float16', 'bfloat16'].includes(dtype)
  const named = outputs.find(({ name }) => name === (config.names.get('logits') ?? 'logits'))
  const flat = outputs.filter(output => isFloat(output) && (output.shape?.length || 3) === 3)
  const logits = named ?? (flat.length === 1 ? flat[0] : outputs[0])
  if (logits === undefined || !isFloat(logits) || (logits.shape?.length || 3) !== 3) {
    throw new QuantError(
      'E_INPUTS',
      `no output looks like logits [batch, sequence, vocabulary]: ${outputs.map(show).join(', ') || 'there are none'}`,
      'omniquant reads decoder language models that give logits for every position.',
    )
  }
  return logits
}

/**
 * Finds the role of every input and output: by name (genai_config.json's names first), checked against type and shape.
 * @param source a model, or a session that runs one.
 * @param folder where genai_config.json, config.json and generation_config.json are; a model's own folder when absent.
 * @throws E_INPUTS when input_ids or logits are missing, a name contradicts its type or shape, an input is of no known
 * role, or the size of the cache cannot be found out; E_TOO_LARGE when that is absurd.
 */
export function describeIo(source: Model | IoSource, folder?: string): ModelIo {
  const graph = isModel(source) ? source.graph : undefined
  const place = folder ?? (isModel(source) && source.path !== undefined ? dirname(source.path) : undefined)
  const config = readModelConfig(place === undefined ? [] : modelFolders(place))
  // Initializers may be listed as inputs too (IR version 3). They need no feed.
  const inputs = isModel(source) ? source.graph.inputs.filter(input => input.tensor === undefined) : source.inputs
  const outputs: readonly IoValue[] = isModel(source) ? source.graph.outputs : source.outputs

  const bound = bindInputs(inputs, config.names)
  if (graph && bound.renamed.length > 0) checkCaches(graph, bound.past, config)
  const past = bound.past.map((binding): PastPort => {
    const graphInput = graph?.inputs.find(({ name }) => name === binding.name)
    const fromGraph = (read: (graph: Graph, past: Value) => number | undefined) =>
      graph && graphInput ? read(graph, graphInput) : undefined
    const headDim = binding.headDim ?? config.headSize ?? fromGraph(headDimOf)
    const window = binding.sliding ? config.slidingWindow : undefined
    return {
      name: binding.name,
      dtype: binding.dtype,
      layer: binding.layer,
      kind: binding.kind,
      heads: knownSize(binding, 'number of heads', binding.heads),
      headDim: knownSize(binding, 'head width', headDim),
      capacity: fromGraph(cacheCapacityOf) ?? window ?? 0,
      present: presentOf(binding, outputs, config),
    }
  })
  checkCacheSize(past, bound.batch ?? 1)
  const logits = findLogits(outputs, config)
  const vocabulary = logits.shape?.at(-1)
  const limits = [config.maxPositions, graph && positionTableLength(graph, bound.positionIds?.name)].filter(
    // A table shorter than the offset into it is no table of positions.
    (limit): limit is number => limit !== undefined && limit >= 1,
  )
  return {
    batch: bound.batch,
    seqLen: bound.seqLen,
    inputIds: bound.inputIds,
    attentionMask: bound.attentionMask,
    positionIds: bound.positionIds,
    sharedPositions: bound.sharedPositions,
    past,
    logitsToKeep: bound.logitsToKeep,
    useCacheBranch: bound.useCacheBranch,
    renamed: bound.renamed,
    logits: { name: logits.name, dtype: logits.dtype ?? 'float32' },
    vocabSize: typeof vocabulary === 'number' && vocabulary > 0 ? vocabulary : config.vocabSize,
    bosTokenId: config.bosTokenId,
    maxPositions: limits.length === 0 ? undefined : Math.min(...limits),
  }
}

/** True where a run gives back its whole cache, so that decode can feed one token at a time. */
export function hasCache(io: ModelIo): boolean {
  return io.seqLen === undefined && io.past.length > 0 && io.past.every(({ present }) => present !== undefined)
}

/**
 * Refuses sequences that are longer than the model's positions, or not of the one length it takes. onnxruntime would fail later
 * and say less.
 * @throws E_SEQ_LEN
 */
export function checkSeqLen(io: ModelIo, seqLen: number): void {
  if (io.seqLen !== undefined && seqLen !== io.seqLen)
    throw new QuantError(
      'E_SEQ_LEN',
      `the file takes sequences of ${io.seqLen} tokens and no others, but ${seqLen} are wanted`,
      `Use ${option('seqLen', io.seqLen)}.`,
    )
  if (io.maxPositions === undefined || seqLen <= io.maxPositions) return
  throw new QuantError(
    'E_SEQ_LEN',
    `sequences of ${seqLen} tokens are longer than the ${io.maxPositions} positions of the model`,
    `Use ${option('seqLen', io.maxPositions)} or less.`,
  )
}
