/**
 * @file Hidden states of a model in which one thing is changed, for many such changes side by side: each block is read and compiled once
 * for all of them. A change is one block's other version; behind it the model is the float one.
 */

import { ActivationStore, suffixOf } from '../../calibration/activation-store.ts'
import type { WorkFolder } from '../../files/work-folder.ts'
import { staticShape } from '../../graph/shape.ts'
import type { SessionOptions, Tensors } from '../../kernels/session.ts'
import { type BlockVersion, floatVersion } from '../learn/block-version.ts'
import { runBlock } from '../learn/run-block.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import type { LogitsDivergence } from './float-logits.ts'

/** Hidden states before the next block: of the float model, and of every change in a block before it. */
export class SingleChanges {
  /** Those of the float model, [samples, ...]. */
  readonly float: ActivationStore
  /** Those of changes, [changes * samples, ...]. */
  private readonly changed: ActivationStore
  /** Those of the change in work. */
  private readonly one: ActivationStore
  private readonly session: SessionOptions
  private count = 0

  /** @param first plan of the first block. @param most changes there will be. */
  constructor(
    work: Pick<WorkFolder, 'file'>,
    first: BlockPlan,
    samples: number,
    most: number,
    session: SessionOptions,
  ) {
    const shape = staticShape(first.block.input)
    const open = (name: string, count: number) =>
      new ActivationStore(work.file(`single-${name}${suffixOf('float32')}`), count, shape)
    this.float = open('float', samples)
    this.changed = open('changed', Math.max(1, most) * samples)
    this.one = open('one', samples)
    this.session = session
  }

  private get samples(): number {
    return this.float.samples
  }

  /** Begins a change: this block in another version. @returns its number. */
  async begin(plan: BlockPlan, version: BlockVersion): Promise<number> {
    await runBlock(plan, version, { from: this.float, to: this.one }, this.session)
    const first = this.count * this.samples
    for (let i = 0; i < this.samples; i++) this.changed.writeTensor(first + i, this.one.tensor(i, 1))
    return this.count++
  }

  /** Goes on behind the block. @param before number of changes that were begun in blocks before it. */
  async advance(plan: BlockPlan, weights: Tensors, before: number): Promise<void> {
    const version = floatVersion(weights)
    if (before > 0) {
      const samples = before * this.samples
      await runBlock(plan, version, { from: this.changed, samples, to: this.changed }, this.session)
    }
    await runBlock(plan, version, { from: this.float, to: this.float }, this.session)
  }

  /** Number of changes so far. */
  get begun(): number {
    return this.count
  }

  /** Divergence that each change leads to, once the last block is behind: the mean over all samples. */
  async divergences(logits: LogitsDivergence, onProgress: (done: number, total: number) => void): Promise<number[]> {
    const results: number[] = []
    for (let change = 0; change < this.count; change++) {
      let sum = 0
      for (let i = 0; i < this.samples; i++)
        sum += await logits.between(this.changed.tensor(change * this.samples + i, 1), this.float.tensor(i, 1))
      results.push(sum / this.samples)
      onProgress(change + 1, this.count)
    }
    return results
  }

  remove(): void {
    for (const store of [this.float, this.changed, this.one]) store.remove()
  }
}
