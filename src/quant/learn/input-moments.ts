/** @file Second moments of what the linears of a block read, over all samples. */

import type { ActivationStore } from '../../calibration/activation-store.ts'
import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/ir.ts'
import { staticShape } from '../../graph/shape.ts'
import { elementCount } from '../../graph/tensor.ts'
import type { SessionOptions } from '../../kernels/session.ts'
import type { Linear } from '../find/linears.ts'
import type { ActivationSite } from '../plan/activation-sites.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import { sameSite } from '../plan/site.ts'
import type { BlockVersion } from './block-version.ts'
import type { SampleValues } from './observer.ts'
import { runBlock } from './run-block.ts'

/** Moments: squares, the sum of x^2 in each channel, [K]; products, the sum of x x^T, [K, K]. */
export type Moments = 'squares' | 'products'

const MOMENTS: Readonly<Record<Moments, { readonly rank: number; readonly emit: (g: Builder, x: Value) => Value }>> = {
  squares: { rank: 1, emit: (g, x) => g.reduceSum(g.mul(x, x), [0], false) },
  products: { rank: 2, emit: (g, x) => g.matMul(g.transpose(x, [1, 0]), x) },
}

export interface MomentsRun {
  readonly from: ActivationStore
  readonly of: Moments
}

/** Linears of a block that read the same numbers, such as q, k and v. Inputs of a block are in the order of the graph. */
export function groupsOfReaders({ activationSites }: BlockPlan, linears: readonly Linear[]): Linear[][] {
  const siteOf = ({ node }: Linear) =>
    activationSites.find(({ readers }) => readers.some(each => sameSite(each, { node, input: 0 })))
  const readers = new Map<Value, Map<ActivationSite | undefined, Linear[]>>()
  for (const linear of linears) {
    const [input, site] = [linear.node.inputs[0]!, siteOf(linear)]
    const bySite = readers.get(input) ?? new Map<ActivationSite | undefined, Linear[]>()
    readers.set(input, bySite.set(site, [...(bySite.get(site) ?? []), linear]))
  }
  return [...readers.values()].flatMap(bySite => [...bySite.values()])
}

/** Moments of what each of `readers` reads, over all samples of `from`. */
export async function inputMoments(
  plan: BlockPlan,
  version: BlockVersion,
  readers: readonly (readonly Linear[])[],
  { from, of }: MomentsRun,
  session: SessionOptions,
  onProgress?: (done: number, total: number) => void,
): Promise<Float32Array[]> {
  const { rank, emit } = MOMENTS[of]
  const results: Float32Array[] = []
  const observers = readers.map(([linear], j) => {
    const shape = staticShape(linear!.node.inputs[0]!)
    const K = shape.at(-1)!
    return {
      shape: Array<number>(rank).fill(K),
      over: 'sum' as const,
      emit: (g: Builder, { readBy }: SampleValues) => emit(g, g.reshape(readBy(linear!), [elementCount(shape) / K, K])),
      take: (result: Float32Array) => void (results[j] = result),
    }
  })
  await runBlock(plan, version, { from, observers }, session, onProgress)
  return results
}
