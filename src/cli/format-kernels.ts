/** @file Kernels and versions of onnxruntime -> text for people. */

import { printableLine } from '../printable.ts'
import type { InspectedKernel, InspectedKernels } from '../quant/inspected.ts'
import type { RuntimeNeed } from '../quant/terms/report.ts'
import { nameRange, table, withoutNumber } from './table.ts'

/** "onnxruntime 1.24 or later (MatMulNBits of 2 bits), fast from 1.28 on" */
export function runtimeText({ least, because, fast }: RuntimeNeed): string {
  return `onnxruntime ${least} or later (${because.join(', ')})${fast === undefined ? '' : `, fast from ${fast} on`}`
}

/** "4 bits, blocks of 32, level 4, zero points" */
function storedText({ op, K, bits, block, level, zeroPoints }: InspectedKernel): string {
  if (op === 'float weight') return op
  const isWhole = block !== undefined && K !== undefined && block >= K
  const blocks = isWhole ? 'one scale per output' : `blocks of ${block}`
  const parts = [
    `${bits} bits`,
    ...(block === undefined ? [] : [blocks]),
    ...(op === 'MatMulNBits' ? [`level ${level}`] : []),
    ...(zeroPoints === 'none' ? [] : [zeroPoints === 'float' ? 'float zero points' : 'zero points']),
  ]
  return `${op}, ${parts.join(', ')}`
}

function speedText({ speed }: InspectedKernel): string {
  const ratio = speed?.token ?? speed?.product
  return ratio === undefined ? '' : `x${ratio < 1 ? ratio.toFixed(2) : ratio.toFixed(1)}`
}

function reasonText({ faster, shapeWants }: InspectedKernel): string {
  if (faster) return `${faster.name}: wants ${faster.wants.join(' and ')}`
  return shapeWants.length === 0 ? '' : `faster ones want ${shapeWants.join(', ')}`
}

/** A row for all weights of one kind: those of other blocks differ by a number in their names. */
function kernelRows(products: readonly InspectedKernel[]): string[][] {
  const groups = new Map<string, { first: InspectedKernel; last: InspectedKernel }>()
  for (const product of products) {
    const key = JSON.stringify({ ...product, name: withoutNumber(product.name) })
    groups.set(key, { first: groups.get(key)?.first ?? product, last: product })
  }
  return [...groups.values()].map(({ first, last }) => [
    nameRange(first.name, last.name),
    `${first.K ?? '?'} x ${first.N ?? '?'}`,
    storedText(first),
    first.kernel,
    speedText(first),
    reasonText(first),
  ])
}

/** Kernels of every product on a target. */
export function kernelLines({ target, scheme, onnxruntime, products }: InspectedKernels): string {
  const what = scheme === undefined ? 'as stored' : `with ${scheme}`
  const needs = onnxruntime ? `, needs ${runtimeText(onnxruntime)}` : ''
  const head = ['weight', 'K x N', 'stored', 'kernel', 'speed', 'why no faster one']
  const rows = products.length === 0 ? '' : table([head, ...kernelRows(products)], [1])
  return [printableLine(`kernels on ${target}, ${what}${needs}`), rows.replace(/^/gm, '  ')].join('\n').trimEnd()
}
