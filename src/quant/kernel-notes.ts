/** @file Notes about quantized products that have no fast kernel where the file will run. Computed from the nodes of the output. */

import { option } from '../option-mark.ts'
import { containerBits } from '../kernels/pack/matmul-nbits.ts'
import { type ChosenKernel, kernelOf } from './terms/choose-kernel.ts'
import type { NamedProduct } from './terms/kernel.ts'
import { HEAD_SPEED } from './terms/kernel-table.ts'
import type { ResolvedOptions } from './terms/options.ts'
import { TARGETS } from './terms/targets.ts'

/** Names of weights in one note. */
const SHOWN = 3

/** Speed against float below which a kernel is slow. */
const SLOW = 0.8

/** Products of the output. */
export interface OutputProducts {
  readonly inBlocks: readonly NamedProduct[]
  /** lm_head and embeddings. */
  readonly outside: readonly NamedProduct[]
}

/** Products of one kind that take the same kernel. */
interface Group {
  readonly chosen: ChosenKernel
  readonly products: NamedProduct[]
  /** All of the blocks' products. */
  readonly whole: boolean
}

const isSlow = ({ name, speed }: ChosenKernel): boolean =>
  name === 'none' || (speed?.token ?? speed?.product ?? 1) < SLOW

const unique = <T>(values: readonly T[]): T[] => [...new Set(values)]

/** "21 weights (MatMulNBits of 2 bits, blocks of 64 and 128, accuracy level 0)" */
function subjectOf({ products, whole }: Group): string {
  const [{ op, bits, level }] = products as [NamedProduct]
  const names = unique(products.map(({ name }) => name))
  const blocks = unique(products.flatMap(({ block }) => block ?? []))
  const how = [
    `${op} of ${bits} bits`,
    ...(blocks.length === 0 ? [] : [`blocks of ${blocks.join(' and ')}`]),
    ...(op === 'MatMulNBits' ? [`accuracy level ${level}`] : []),
  ]
  const what = whole ? 'the linears of the blocks' : names.length > SHOWN ? `${names.length} weights` : names.join(', ')
  return `${what} (${how.join(', ')})`
}

/** "about 20 times", for a speed below that of float. */
const times = (speed: number): string => `about ${(1 / speed).toFixed(0)} times`

function cost({ chosen: { speed }, whole }: Group): string {
  const { token, product } = speed ?? {}
  if (token !== undefined && token < SLOW && (whole || product === undefined))
    return `one token takes ${times(token)} as long as in the float model`
  if (product !== undefined && product < SLOW)
    return `such a product of one token takes ${times(product)} as long as in float`
  return token === undefined ? '' : `one token is ${token.toFixed(1)} times as fast as in the float model`
}

function groupNote(group: Group, target: string): string {
  const { chosen, products } = group
  const many = group.whole || products.length > 1
  const lacks = isSlow(chosen)
    ? `${many ? 'have' : 'has'} no fast kernel on ${target} ("${chosen.name}")`
    : `${many ? 'take' : 'takes'} the kernel "${chosen.name}" on ${target}`
  const fate = chosen.name === 'none' ? `${many ? 'have' : 'has'} no kernel on ${target}` : lacks
  const wants = chosen.faster && `"${chosen.faster.name}" wants ${chosen.faster.wants.join(' and ')}`
  return [`${subjectOf(group)} ${fate}`, cost(group), wants].filter(part => part).join('; ')
}

/** A note for an lm_head that stays float where the target has a fast kernel for it. */
function headNote({ target, scheme, lmHead }: NotedOptions): string[] {
  const speed = HEAD_SPEED[target]
  const usual = TARGETS[target].lmHead[containerBits(scheme.weights.bits)]
  if (!speed || usual === undefined || lmHead !== undefined) return []
  return [
    `lm_head stays float: at w4a16 one token was ${speed.quantized} times as fast as in the float model with lm_head in 4 bits, ` +
      `${speed.float} times with a float one (${option('lmHead', usual)})`,
  ]
}

type NotedOptions = Pick<ResolvedOptions, 'target' | 'scheme' | 'lmHead'>

/**
 * A line for each kind of product that is slower than float, or that other options would make faster.
 */
export function kernelNotes({ inBlocks, outside }: OutputProducts, options: NotedOptions): string[] {
  const { target } = options
  const groups = new Map<string, Group>()
  const add = (products: readonly NamedProduct[], inBlock: boolean) => {
    for (const product of products) {
      const chosen = kernelOf(target, product)
      if (!isSlow(chosen) && chosen.faster === undefined) continue
      const { op, bits, level } = product
      const key = JSON.stringify([op, bits, level, chosen.name, chosen.faster?.name, inBlock])
      const group = groups.get(key) ?? { chosen, products: [], whole: false }
      group.products.push(product)
      groups.set(key, { ...group, whole: inBlock && group.products.length === products.length })
    }
  }
  add(inBlocks, true)
  add(outside, false)
  return [...[...groups.values()].map(group => groupNote(group, target)), ...headNote(options)]
}
