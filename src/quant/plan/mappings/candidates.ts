/** @file Candidates for mappings: channels of a block that share their makers and readers, and names for them. Decides nothing (mappings.ts). */

import type { Site } from '../site.ts'
import type { Mapping } from './mapping.ts'
import type { ScaleTrace } from './scale-trace.ts'

type Kind = Mapping['kind']

/** Channels that share a scale, as roots of ScaleClasses, which come from the same constants and end in the same ones. */
export interface Candidate {
  readonly kind: Kind
  /** Indices into columns and gains, reads, scores of the trace. */
  readonly sources: readonly number[]
  readonly reads: readonly number[]
  readonly scores: readonly number[]
  /** Root -> an id of the class whose constants are divided. */
  readonly classes: Map<number, number>
}

/** Maker of channels: columns of a linear, or a gain. */
export interface Source {
  readonly name: string
  readonly first: number
  readonly count: number
  readonly isGain: boolean
}

/** The last part of a name that says something: "model.layers.0.self_attn.q_proj.weight" -> "q_proj". */
export function shortName(name: string): string {
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

export function sourcesOf({ columns, vectors }: ScaleTrace): Source[] {
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
export function candidatesOf({ classes, reads, scores }: ScaleTrace, sources: readonly Source[]): Candidate[] {
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

export const names = (list: readonly string[]): string => [...new Set(list)].join(', ')

export function nameOf(
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
