/** @file The kernel that runs a quantized product on a target, and what a faster one wants. The kernels are rows of kernel-table.ts. Knows no model. */

import { KERNELS } from './kernel-table.ts'
import type { Kernel, KernelSpeed, StoredProduct } from './kernel.ts'
import type { TargetName } from './targets.ts'

export interface ChosenKernel {
  /** 'none' where the target cannot run the product itself. */
  readonly name: string
  readonly speed: KernelSpeed | undefined
  /** Fastest kernel that another choice of options would have, with its speed for such a product. */
  readonly faster: { readonly name: string; readonly wants: readonly string[] } | undefined
  /** Reasons that the model's shapes and types keep it from a faster kernel. */
  readonly shapeWants: readonly string[]
}

const unmet = ({ needs }: Kernel, product: StoredProduct, optional: boolean): string[] =>
  needs.filter(need => need.optional === optional && !need.holds(product)).map(({ wants }) => wants(product))

/** The kernel of a product on a target. */
export function kernelOf(target: TargetName, product: StoredProduct): ChosenKernel {
  const rows = KERNELS[target]
  const own = rows.filter(({ ops }) => ops.includes(product.op))
  if (own.length === 0) return noKernel(rows, product)
  const at = own.findIndex(({ needs }) => needs.every(({ holds }) => holds(product)))
  const taken = own[at]
  const faster = at < 0 ? own : own.slice(0, at)
  // The first that the shapes allow: a kernel that no option reaches is no advice.
  const reachable = faster.find(kernel => unmet(kernel, product, false).length === 0)
  return {
    name: taken?.name ?? 'none',
    speed: taken?.speed?.(product),
    faster: reachable && { name: reachable.name, wants: unmet(reachable, product, true) },
    shapeWants: [...new Set(faster.flatMap(kernel => unmet(kernel, product, false)))],
  }
}

/** For an operator that the target has no kernel for. */
function noKernel([first]: readonly Kernel[], { op }: StoredProduct): ChosenKernel {
  const instead = op === 'GatherBlockQuantized' ? 'Gather of a float table' : first!.ops[0]!
  const faster = { name: first!.name, wants: [`${instead} instead of ${op}`] }
  return { name: 'none', speed: undefined, faster, shapeWants: [] }
}
