/** @file Files of the hidden states between blocks, in the work folder. */

import { ActivationStore, type StateType, suffixOf } from '../calibration/activation-store.ts'
import type { WorkFolder } from '../files/work-folder.ts'
import { staticShape } from '../graph/shape.ts'
import type { Block } from './find/blocks.ts'
import type { HiddenStates } from './learn/hidden-states.ts'
import { padded } from './resume.ts'

type Kind = 'float' | 'quantized'

/** Files of the hidden states before and after the block in work. Those before it stay until it is finished. */
export class StateFiles {
  private readonly work: WorkFolder
  private readonly samples: number
  private readonly dims: readonly number[]
  private readonly dtype: StateType
  private stores: { float: ActivationStore; quantized: ActivationStore } | undefined
  private next: { float: ActivationStore; quantized: ActivationStore } | undefined

  constructor(work: WorkFolder, samples: number, first: Block, dtype: StateType) {
    this.work = work
    this.samples = samples
    this.dims = staticShape(first.input)
    this.dtype = dtype
  }

  private fileName(kind: Kind, index: number): string {
    return `${kind}-${padded(index)}${suffixOf(this.dtype)}`
  }

  private store(kind: Kind, index: number, existing: boolean): ActivationStore {
    return new ActivationStore(
      this.work.file(this.fileName(kind, index)),
      this.samples,
      this.dims,
      existing,
      this.dtype,
    )
  }

  /** Opens the states before block `index`. Those before the first block are made by `embed` and serve both models. */
  async begin(index: number, embed: (store: ActivationStore) => Promise<void>): Promise<void> {
    // Other files were being written when an earlier run ended.
    this.work.removeAllBut([this.fileName('float', index), this.fileName('quantized', index)])
    const float = this.store('float', index, index > 0)
    this.stores = { float, quantized: index > 0 ? this.store('quantized', index, true) : float }
    if (index === 0) await embed(float)
  }

  /** Hidden states around block `index`, the next one in order. */
  around(index: number): HiddenStates {
    this.next = {
      float: this.store('float', index + 1, false),
      quantized: this.store('quantized', index + 1, false),
    }
    return { ...this.stores!, nextFloat: this.next.float, nextQuantized: this.next.quantized }
  }

  /** Hidden states of the quantized model before the next block, or after the last one; undefined when nothing was begun. */
  get quantized(): ActivationStore | undefined {
    return this.stores?.quantized
  }

  /** Waits until the states after the block are on the disk. */
  sync(): void {
    this.next!.float.sync()
    this.next!.quantized.sync()
  }

  /** Goes on to the next block and removes the states before this one. */
  advance(): void {
    for (const store of new Set(Object.values(this.stores!))) store.remove()
    this.stores = this.next
    this.next = undefined
  }

  close(): void {
    for (const store of [...Object.values(this.stores ?? {}), ...Object.values(this.next ?? {})]) store.close()
  }
}
