/** @file Contents of a quantized file: bits, groups, bits per weight, and where it comes from. Reads headers, no weights. */

import type { Model } from '../graph/ir.ts'
import { findProducts } from './find/products.ts'
import { bitsPerParameter } from './foretell.ts'
import type { InspectedQuantized, QuantizedGroup } from './inspected.ts'
import { readProvenance } from './provenance.ts'
import type { NamedProduct } from './terms/kernel.ts'

const ZERO_POINT_BITS = { none: 0, integer: 1, float: 0 } as const

/** Bits of codes, scales and zero points of a product; 0 where the file does not say its shape. */
function bitsOf({ K, N, bits, block, dtype, zeroPoints }: NamedProduct): number {
  if (K === undefined || N === undefined) return 0
  const groups = Math.ceil(K / (block ?? K))
  const scale = dtype === 'float16' || dtype === 'bfloat16' ? 16 : 32
  const zeroPoint = zeroPoints === 'float' ? scale : bits * ZERO_POINT_BITS[zeroPoints]
  return N * (K * bits + groups * (scale + zeroPoint))
}

const weightsOf = ({ K, N }: NamedProduct): number => (K ?? 0) * (N ?? 0)

const sum = (numbers: readonly number[]): number => numbers.reduce((all, each) => all + each, 0)

/** Products that are stored alike. Two nodes that read one tensor, as tied ones do, count twice. */
function groupsOf(products: readonly NamedProduct[]): QuantizedGroup[] {
  const alike = new Map<string, NamedProduct[]>()
  for (const product of products) {
    const { op, bits, block, zeroPoints, level, K } = product
    const whole = block === undefined || (K !== undefined && block >= K)
    const key = JSON.stringify([op, bits, whole ? 'output' : block, zeroPoints, level])
    alike.set(key, [...(alike.get(key) ?? []), product])
  }
  return [...alike.values()].map(list => {
    const [{ op, bits, block, zeroPoints, K }] = list as [NamedProduct]
    const whole = block === undefined || (K !== undefined && block >= K)
    return {
      op,
      bits,
      ...(!whole && { group: block }),
      zeroPoints: zeroPoints !== 'none',
      count: list.length,
      weights: sum(list.map(weightsOf)),
    }
  })
}

/** @param size bytes of the file and its data files. @returns undefined for a file without quantized weights. */
export function inspectQuantized(model: Model, size: number): InspectedQuantized | undefined {
  const products = [...findProducts(model).values()].filter(({ op }) => op !== 'float weight')
  const provenance = readProvenance(model)
  if (products.length === 0 && !provenance) return undefined
  const weights = sum(products.map(weightsOf))
  return {
    groups: groupsOf(products),
    weights,
    bitsPerWeight: bitsPerParameter(sum(products.map(bitsOf)) / 8, weights),
    fileBitsPerWeight: bitsPerParameter(size, weights),
    ...(provenance && { provenance }),
  }
}
