/**
 * @file The equivalent transformations a block allows (LET, arXiv 2308.13137 section 3.3): which constants may be divided by a scale when
 * which others are multiplied by it. Puts what was traced (scale-rules.ts) into words; computes no scale.
 */

import type { Node, Value } from '../../../graph/ir.ts'
import type { Refused } from '../../../graph/refusal.ts'
import { staticShape } from '../../../graph/shape.ts'
import { elementCount } from '../../../graph/tensor.ts'
import type { Block } from '../../find/blocks.ts'
import type { Leaving } from '../../find/leaving.ts'
import type { Linear } from '../../find/linears.ts'
import type { Site } from '../site.ts'
import type { End, Mapping } from './mapping.ts'
import { type Candidate, candidatesOf, names, shortName, sourcesOf, nameOf } from './candidates.ts'
import { traceScales } from './scale-rules.ts'
import { describeNode, type ScaleTrace } from './scale-trace.ts'

/** The ends of a mapping. @returns undefined when every class is refused. */
function mappingOf(candidate: Candidate, trace: ScaleTrace, name: string): Mapping | undefined {
  const { classes, columns, vectors } = trace
  const { kind, reads } = candidate
  const allowed = [...candidate.classes].filter(([root]) => classes.refusal(root) === undefined)
  if (allowed.length === 0) return undefined
  const index = new Map(allowed.map(([root], i) => [root, i]))
  const isDivided = (id: number): boolean =>
    classes.isInverse(id) === classes.isInverse(candidate.classes.get(classes.root(id))!)
  /** Scales of a constant's elements, once for those on each side. */
  const sides = (ids: Int32Array): { divided: Int32Array | undefined; multiplied: Int32Array | undefined } => {
    const found = { divided: false, multiplied: false }
    const pair = { divided: new Int32Array(ids.length).fill(-1), multiplied: new Int32Array(ids.length).fill(-1) }
    ids.forEach((id, i) => {
      const scale = id < 0 ? undefined : index.get(classes.root(id))
      if (scale === undefined) return
      const side = isDivided(id) ? 'divided' : 'multiplied'
      pair[side][i] = scale
      found[side] = true
    })
    return {
      divided: found.divided ? pair.divided : undefined,
      multiplied: found.multiplied ? pair.multiplied : undefined,
    }
  }
  const divided: End[] = []
  const multiplied: End[] = []
  for (const [linear, first] of columns) {
    const scales = sides(Int32Array.from({ length: linear.outFeatures }, (_, i) => first + i))
    if (scales.divided) divided.push({ kind: 'columns', linear, scales: scales.divided })
    if (scales.multiplied) multiplied.push({ kind: 'columns', linear, scales: scales.multiplied })
  }
  for (const { site, ids } of vectors) {
    const scales = sides(ids)
    if (scales.divided) divided.push({ kind: 'vector', site, scales: scales.divided })
    if (scales.multiplied) multiplied.push({ kind: 'vector', site, scales: scales.multiplied })
  }
  for (const i of reads) {
    const { linear, ids } = trace.reads[i]!
    const scales = sides(ids).divided
    if (scales) multiplied.push({ kind: 'rows', linear, scales })
  }
  const floatReads = trace.floatReads.flatMap(({ site, ids }) => {
    const scales = sides(ids).divided
    if (!scales) return []
    const { dims } = site.node.inputs[site.input]!.tensor!
    const perRow = Int32Array.from({ length: elementCount(dims) }, (_, i) => scales[Math.floor(i / dims[1]!)]!)
    return [{ kind: 'vector', site, scales: perRow } as const]
  })
  multiplied.push(...floatReads)
  const shifts = reads.map(i => trace.reads[i]!.shift)
  // What stays float gets no bias for what a shift takes from it.
  const shift = floatReads.length === 0 && shifts.every(site => site === shifts[0]) ? shifts[0] : undefined
  const changed = trace.leaving.filter(({ ids }) => ids.some(id => id >= 0 && index.has(classes.root(id))))
  const outputs = [...new Set(changed.map(({ output }) => output))].sort()
  return { kind, name, size: allowed.length, divided, multiplied, shift, outputs }
}

/** Linears whose input comes from nothing that can be scaled, by the value they read. */
function unscaledReads({ reads }: ScaleTrace): Refused[] {
  const readers = new Map<Value, Linear[]>()
  for (const { linear, ids } of reads) {
    if (ids.some(id => id >= 0)) continue
    const value = linear.node.inputs[0]!
    readers.set(value, [...(readers.get(value) ?? []), linear])
  }
  return [...readers].map(([value, linears]) => {
    const maker: Node | undefined = value.producer
    return {
      at: `-> ${names(linears.map(({ name }) => shortName(name)))}`,
      reason: `what it reads${maker ? `, made by ${describeNode(maker)},` : ''} has no gain and is not computed by a linear`,
    }
  })
}

/**
 * The mappings of a block, in the order of what they divide, and those that were looked for in vain: every linear's input and
 * every product of queries and keys is in one of the two. Reads no weight.
 * @param leaving what must not be scaled because it leaves the user's graph; absent: the graph has no output but the logits.
 */
export function findMappings(block: Block, leaving?: Leaving): { mappings: Mapping[]; skipped: Refused[] } {
  const trace = traceScales(block, leaving)
  const sources = sourcesOf(trace)
  const mappings: Mapping[] = []
  const skipped: Refused[] = []
  for (const candidate of candidatesOf(trace, sources)) {
    const name = nameOf(candidate, trace, sources)
    const mapping = mappingOf(candidate, trace, name)
    if (mapping) mappings.push(mapping)
    else {
      const [root] = candidate.classes.keys()
      skipped.push({ at: name, reason: trace.classes.refusal(root!)! })
    }
  }
  return { mappings, skipped: [...skipped, ...unscaledReads(trace)] }
}

/**
 * The constant bias added to a linear's output, if there is one (Add of a vector [N] right behind the MatMul; a Gemm's bias is such
 * an Add in the working copy) and nothing else reads the product.
 */
export function biasSite({ node, outFeatures }: Linear, block: Block): Site | undefined {
  const product = node.outputs[0]!
  if (product === block.output) return undefined
  const readers = block.nodes.flatMap(reader =>
    reader.inputs.flatMap((value, input) => (value === product ? [{ node: reader, input }] : [])),
  )
  const [reader] = readers
  if (readers.length !== 1 || reader!.node.kind !== 'Add') return undefined
  const site = { node: reader!.node, input: 1 - reader!.input }
  const bias = site.node.inputs[site.input]!
  if (!bias.tensor) return undefined
  const dims = staticShape(bias)
  return dims.at(-1) === outFeatures && elementCount(dims) === outFeatures ? site : undefined
}
