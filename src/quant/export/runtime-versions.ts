/**
 * @file The least onnxruntime that runs a file, from its nodes. Each row was tried with the wheels of 1.19 to 1.31 for Python (x64, CPU) on
 * 2026-11-21: the version is the first whose numbers are right.
 */

import type { StoredProduct } from '../terms/kernel.ts'
import type { RuntimeNeed } from '../terms/report.ts'

interface VersionRow {
  readonly what: string
  readonly holds: (product: StoredProduct) => boolean
  /** First version that runs it. */
  readonly least: string
}

const nBits =
  (bits: number, more: (product: StoredProduct) => boolean = () => true) =>
  (product: StoredProduct): boolean =>
    product.op === 'MatMulNBits' && product.bits === bits && more(product)

const table =
  (bits: number) =>
  ({ op, bits: own }: StoredProduct): boolean =>
    op === 'GatherBlockQuantized' && own === bits

const isHalf = ({ dtype }: StoredProduct): boolean => dtype === 'float16'

const isLevel4 = ({ level }: StoredProduct): boolean => level === 4

// QMoE in blocks is refused by 1.23 and 1.24.
const ROWS: readonly VersionRow[] = [
  { what: 'MatMulNBits of 4 bits', holds: nBits(4), least: '1.20' },
  { what: 'MatMulNBits of 8 bits', holds: nBits(8), least: '1.22' },
  { what: 'MatMulNBits of 8 bits and accuracy level 0', holds: nBits(8, product => !isLevel4(product)), least: '1.23' },
  { what: 'MatMulNBits of 2 bits', holds: nBits(2), least: '1.24' },
  { what: 'MatMulNBits of 2 bits in float16', holds: nBits(2, isHalf), least: '1.28' },
  { what: 'GatherBlockQuantized of 4 bits', holds: table(4), least: '1.23' },
  { what: 'GatherBlockQuantized of 8 bits', holds: table(8), least: '1.23' },
  { what: 'GatherBlockQuantized of 2 bits', holds: table(2), least: '1.27' },
  { what: 'QMoE', holds: ({ op }) => op === 'QMoE', least: '1.25' },
  { what: 'QMoE of 2 bits', holds: ({ op, bits }) => op === 'QMoE' && bits === 2, least: '1.27' },
  { what: 'MatMulIntegerToFloat', holds: ({ op }) => op === 'MatMulIntegerToFloat', least: '1.20' },
  { what: 'DequantizeLinear of 4 or 8 bits', holds: ({ op, bits }) => op === 'qdq' && bits > 2, least: '1.20' },
  { what: 'DequantizeLinear of 2 bits', holds: ({ op, bits }) => op === 'qdq' && bits === 2, least: '1.24' },
]

/** Kernels of CPUs that came later than the operator: 14 ms for one token at K = N = 2048 and one thread until 1.27, 0.08 ms from 1.28 on. */
const FAST_ROWS: readonly VersionRow[] = [
  { what: 'MatMulNBits of 2 bits and accuracy level 4', holds: nBits(2, isLevel4), least: '1.28' },
]

const minorOf = (version: string): number => Number(version.split('.')[1])

/** The latest of some versions "1.N"; undefined without any. */
const latest = (versions: readonly string[]): string | undefined =>
  [...versions].sort((a, b) => minorOf(a) - minorOf(b)).at(-1)

/** The onnxruntime that a file with these products needs; undefined for one without any. */
export function runtimeNeed(products: readonly StoredProduct[]): RuntimeNeed | undefined {
  const rows = ROWS.filter(({ holds }) => products.some(holds))
  const least = latest(rows.map(row => row.least))
  if (least === undefined) return undefined
  const because = rows.filter(row => row.least === least).map(({ what }) => what)
  const fast = latest(FAST_ROWS.filter(({ holds }) => products.some(holds)).map(row => row.least))
  return { least, because, ...(fast !== undefined && minorOf(fast) > minorOf(least) && { fast }) }
}
