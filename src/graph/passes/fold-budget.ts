/** @file Whether the constants of a model may be computed: what that would take, against what a model of its size may take. */

import { option } from '../../option-mark.ts'
import { QuantError } from '../../errors.ts'
import type { Graph, Model } from '../ir.ts'
import { type ComputedLimits, computedLimits } from '../limits.ts'
import { tensorsOf } from '../onnx-file/layout.ts'
import { elementCount, sizeBytes, type Tensor } from '../tensor.ts'
import { costOf } from './fold-cost.ts'

/** What the graph is looked at with. */
interface Looks {
  readonly fixedInputs: ReadonlyMap<string, Tensor>
  readonly shapes: ReadonlyMap<string, readonly number[]>
}

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toPrecision(3)} GB`

/** Bytes of all tensors of a file. */
function storedBytes({ graph, functions }: Model): number {
  let sum = 0
  for (const each of [graph, ...[...(functions?.values() ?? [])].map(({ body }) => body)])
    for (const tensor of tensorsOf(each)) sum += sizeBytes(tensor)
  return sum
}

/** The tokens of all sequences: as many as the largest input of one or two dimensions has elements. */
function tokensOf({ shapes, fixedInputs }: Looks): number {
  const all = [...shapes.values(), ...[...fixedInputs.values()].map(({ dims }) => dims)]
  return Math.max(1, ...all.filter(dims => dims.length <= 2).map(elementCount))
}

/** What is left for computing the constants of one working copy. */
export class FoldBudget {
  private readonly limits: ComputedLimits
  /** Of the constants computed so far. */
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
