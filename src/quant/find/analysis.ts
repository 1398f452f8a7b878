/** @file Result of the find stage: a model, its working copy and its blocks. */

import type { ModelIo } from '../../decoder/model-io.ts'
import type { Graph, Model, Value } from '../../graph/ir.ts'
import type { Block } from './blocks.ts'
import type { Leaving } from './leaving.ts'
import type { OtherBranch } from './other-branch.ts'

export interface Analysis {
  /** The user's graph. */
  readonly model: Model
  /** Folder of the model file. Weights still on disk are read from it. */
  readonly folder: string
  readonly io: ModelIo
  /** Tokens per sequence: as asked for, or what the model takes where that was allowed. */
  readonly seqLen: number
  /** input_ids [1, seqLen], or as many rows as the file fixes, -> logits, as float32 primitives. */
  readonly working: Graph
  /** User's value -> value of the working copy. */
  readonly values: ReadonlyMap<Value, Value>
  readonly blocks: readonly Block[]
  /** In files with several branches, where another one reads weights of these blocks. */
  readonly otherBranch: OtherBranch | undefined
  /** Values that leave the graph besides the logits, and those of them that only this file reads again. */
  readonly leaving: Leaving
  /** Name of the other file of a pair, which reads and writes the same cache. */
  readonly partner: string | undefined
  /** Notes about the file for the user. */
  readonly notes: readonly string[]
}
