/** @file Files of the hidden states between blocks, in the work folder. */

import { ActivationStore } from '../calibration/activation-store.ts'
import type { WorkFolder } from '../files/work-folder.ts'
import { staticShape } from '../graph/shape.ts'
import type { Block } from './find/blocks.ts'
import type { Streams } from './learn/streams.ts'
import { padded } from './resume.ts'

const fileName = (kind: 'float' | 'quantized', index: number): string => `${kind}-${padded(index)}.f32`

/** The files of hidden states between blocks: those before a block stay until it is finished. */
export class BlockStreams {
  private readonly work: WorkFolder
  private readonly samples: number
  private readonly dims: readonly number[]
  private stores: { float: ActivationStore; quantized: ActivationStore } | undefined
  private next: { float: ActivationStore; quantized: ActivationStore } | undefined

  constructor(work: WorkFolder, samples: number, first: Block) {
    this.work = work
    this.samples = samples
    this.dims = staticShape(first.input)
  }

  private store(kind: 'float' | 'quantized', index: number, existing: boolean): ActivationStore {
    return new ActivationStore(this.work.file(fileName(kind, index)), this.samples, this.dims, existing)
  }

  /** Opens the states before block `index`; those before the first are made by `embed`, and the same for both models. */
  async begin(index: number, embed: (store: ActivationStore) => Promise<void>): Promise<void> {
    // Whatever else is there was being written when an earlier run ended.
    this.work.removeAllBut([fileName('float', index), fileName('quantized', index)])
    const float = this.store('float', index, index > 0)
    this.stores = { float, quantized: index > 0 ? this.store('quantized', index, true) : float }
    if (index === 0) await embed(float)
  }

  /** Streams for block `index`, the next one in order. */
  around(index: number): Streams {
    this.next = {
      float: this.store('float', index + 1, false),
      quantized: this.store('quantized', index + 1, false),
    }
    return { ...this.stores!, nextFloat: this.next.float, nextQuantized: this.next.quantized }
  }

  /** Waits until what is behind the block is on the disk. */
  sync(): void {
    this.next!.float.sync()
    this.next!.quantized.sync()
  }

  /** Steps behind the block; what was before it goes. */
  advance(): void {
    for (const store of new Set(Object.values(this.stores!))) store.remove()
    this.stores = this.next
    this.next = undefined
  }

  close(): void {
    for (const store of [...Object.values(this.stores ?? {}), ...Object.values(this.next ?? {})]) store.close()
  }
}
