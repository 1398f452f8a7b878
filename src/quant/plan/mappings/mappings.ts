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
import { traceScales } from './scale-rules.ts'
import { describeNode, type ScaleTrace } from './scale-trace.ts'

type Kind = Mapping['kind']

/** Channels that share a scale, as roots of ScaleClasses, which come from the same constants and end in the same ones. */
interface Candidate {
  readonly kind: Kind
  /** Indices into columns and gains, reads, scores of the trace. */
  readonly sources: readonly number[]
  readonly reads: readonly number[]
  readonly scores: readonly number[]
  /** Root -> an id of the class whose constants are divided. */
  readonly classes: Map<number, number>
}

/** What makes channels: columns of a linear, or a gain. */
interface Source {
  readonly name: string
  readonly first: number
  readonly count: number
  readonly isGain: boolean
}

/** The last part of a name that says something: "model.layers.0.self_attn.q_proj.weight" -> "q_proj". */
function shortName(name: string): string {
  const parts = name.split(/[./]/).filter(part => part !== '')
  while (parts.length > 1 && /^(weight|bias|gamma|beta|weight_t)$/.test(parts.at(-1)!)) parts.pop()
  return parts.at(-1) ?? name
}

/** "/model/layers.0/input_layernorm/Mul_1" -> "input_layernorm". Constants of equal contents share names, so that the node knows better. */
function gainName({ node, input }: Site): string {
  const constant = node.inputs[input]!.name
  const parts = (node.origin?.name ?? '').split('/').filter(part => part !== '')
  // Modules have small letters, ops have capitals: what is left names the module.
  while (/^[A-Z]/.test(parts.at(-1) ?? '')) parts.pop()
  return parts.length < 2 || node.origin?.opType.includes('Attention') ? shortName(constant) : parts.at(-1)!
}

function sourcesOf({ columns, vectors }: ScaleTrace): Source[] {
  const linears = [...columns].map(([linear, first]) => ({
    name: shortName(linear.name),
    first,
    count: linear.outFeatures,
    isGain: false,
  }))
  const gains = vectors.flatMap(({ site, ids, isGain }) =>
    isGain ? [{ name: gainName(site), first: ids[0]!, count: ids.length, isGain }] : [],
  )
  return [...linears, ...gains]
}

interface Uses {
  readonly sources: number[]
  readonly reads: number[]
  readonly scores: number[]
  attended: boolean
  fromLinear: boolean
  anchor: number
}

/** Groups the classes that something reads. */
function candidatesOf({ classes, reads, scores }: ScaleTrace, sources: readonly Source[]): Candidate[] {
  const uses = new Map<number, Uses>()
  const useOf = (id: number): Uses => {
    const root = classes.root(id)
    let use = uses.get(root)
    if (!use) {
      use = { sources: [], reads: [], scores: [], attended: false, fromLinear: false, anchor: id }
      uses.set(root, use)
    }
    return use
  }
  const note = (list: number[], index: number) => {
    if (list.at(-1) !== index) list.push(index)
  }
  scores.forEach(({ queries }, i) => {
    for (const id of queries) note(useOf(id).scores, i)
  })
  reads.forEach(({ ids, attended }, i) => {
    for (const id of ids) {
      if (id < 0) continue
      const use = useOf(id)
      note(use.reads, i)
      if (attended) use.attended = true
    }
  })
  sources.forEach(({ first, count, isGain }, i) => {
    for (let id = first; id < first + count; id++) {
      const use = uses.get(classes.root(id))
      if (!use) continue
      note(use.sources, i)
      if (!isGain) use.fromLinear = true
    }
  })
  const candidates = new Map<string, Candidate>()
  for (const [root, use] of [...uses].sort(([, a], [, b]) => a.anchor - b.anchor)) {
    const inScores = use.scores.length > 0
    if (inScores && use.reads.length > 0)
      classes.refuse(root, 'its channels are read by linears and by the scores of attention')
    const kind = inScores ? 'query-key' : use.attended ? 'value' : use.fromLinear ? 'up-down' : 'norm'
    const key = [kind, use.sources, use.reads, use.scores].join(';')
    const candidate = candidates.get(key) ?? { kind, ...use, classes: new Map<number, number>() }
    candidate.classes.set(root, use.anchor)
    candidates.set(key, candidate)
  }
  return [...candidates.values()]
}

const names = (list: readonly string[]): string => [...new Set(list)].join(', ')

function nameOf(
  { kind, sources, reads, classes: members }: Candidate,
  trace: ScaleTrace,
  all: readonly Source[],
): string {
  if (kind !== 'query-key')
    return `${names(sources.map(i => all[i]!.name))} -> ${names(reads.map(i => shortName(trace.reads[i]!.linear.name)))}`
  const { classes } = trace
  const side = (inverse: boolean) =>
    names(
      sources.flatMap(i => {
        const { name, first, count } = all[i]!
        for (let id = first; id < first + count; id++) {
          const anchor = members.get(classes.root(id))
          if (anchor !== undefined && (classes.isInverse(id) !== classes.isInverse(anchor)) === inverse) return [name]
        }
        return []
      }),
    )
  const [queries, keys] = [side(false), side(true)]
  return queries === keys ? `${queries}: queries -> keys` : `${queries} -> ${keys}`.trim()
}

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
