/** @file Limits of memory and work for the constants that a model computes, by the size of the model. */

import { option } from '../../option-mark.ts'
import { QuantError } from '../../errors.ts'
import { type Graph, type Model, tensorsOf } from '../ir.ts'
import { type ComputedLimits, computedLimits } from '../limits.ts'
import { elementCount, sizeBytes, type Tensor } from '../tensor.ts'
import { costOf } from './fold-cost.ts'

/** Fixed inputs, and shapes of the others, for which the constants are computed. */
interface Looks {
  readonly fixedInputs: ReadonlyMap<string, Tensor>
  readonly shapes: ReadonlyMap<string, readonly number[]>
}

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toPrecision(3)} GB`

/** Bytes of all tensors of a file. */
function storedBytes(model: Model): number {
  let sum = 0
  for (const tensor of tensorsOf(model)) sum += sizeBytes(tensor)
  return sum
}

/** Number of tokens of all sequences: elements of the largest input of one or two dimensions. */
function tokensOf({ shapes, fixedInputs }: Looks): number {
  const all = [...shapes.values(), ...[...fixedInputs.values()].map(({ dims }) => dims)]
  return Math.max(1, ...all.filter(dims => dims.length <= 2).map(elementCount))
}

/** Memory and work that are left for the constants of one working copy. */
export class FoldBudget {
  private readonly limits: ComputedLimits
  /** Bytes of the constants computed so far. */
  private keptBytes = 0
  private work = 0

  constructor(model: Model, looks: Looks) {
    this.limits = computedLimits(storedBytes(model), tokensOf(looks))
  }

  /** Asks for room and time before `graph` is computed. @throws E_TOO_LARGE naming the largest value */
  charge(graph: Graph): void {
    const cost = costOf(graph)
    const bytes = this.keptBytes + cost.peakBytes
    this.work += cost.work
    this.keptBytes += cost.keptBytes
    if (bytes <= this.limits.bytes && this.work <= this.limits.work) return
    const { name, shape } = cost.largest
    throw new QuantError(
      'E_TOO_LARGE',
      `constants that the graph computes need ${gigabytes(bytes)} of memory and ${gigabytes(this.work)} of work, ` +
        `where a model of this size may need ${gigabytes(this.limits.bytes)} and ${gigabytes(this.limits.work)}; ` +
        `the largest is "${name}" [${shape?.join(', ')}]`,
      `The file is damaged, or its sequences are too long: use shorter ones with ${option('seqLen')}, or export it again.`,
    )
  }
}
