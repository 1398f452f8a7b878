/** @file Hidden states around a block, on disk: of the float model and of the quantized one. */

import type { ActivationStore } from '../../calibration/activation-store.ts'

/** Hidden states of all samples before a block, which are there, and after it, which learning the block writes. */
export interface HiddenStates {
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
