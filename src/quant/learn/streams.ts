/** @file Hidden states around a block, on disk: of the float model and of the quantized one. */

import type { ActivationStore } from '../../calibration/activation-store.ts'

/** Hidden states on disk, of the float model and of the quantized one: where the block begins, and where it ends. */
export interface Streams {
  readonly float: ActivationStore
  readonly quantized: ActivationStore
  readonly nextFloat: ActivationStore
  readonly nextQuantized: ActivationStore
}

/** into = (a + into) / 2, sample by sample. */
export function average(a: ActivationStore, into: ActivationStore): void {
  for (let i = 0; i < a.samples; i++) {
    const other = a.read(i, 1)
    into.write(
      i,
      into.read(i, 1).map((x, j) => (x + other[j]!) / 2),
    )
  }
}
