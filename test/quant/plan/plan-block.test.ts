/** @file Plans of the fixture's blocks: exceptions from the scheme, and what follows from them. */

import { resolve } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { type Analysis } from '../../../src/quant/find/analysis.ts'
import { analyze } from '../../../src/quant/find/analyze.ts'
import { type BlockPlan, inputSite, layoutOf } from '../../../src/quant/plan/block-plan.ts'
import { groupNotes, overrideNotes } from '../../../src/quant/notes.ts'
import { planBlock } from '../../../src/quant/plan/plan-block.ts'
import { resolveOptions } from '../../../src/quant/terms/resolve-options.ts'
import { parseScheme, parseWeightOverride } from '../../../src/quant/terms/scheme.ts'
import { type WeightRules } from '../../../src/quant/terms/scheme.ts'
import { weightSchemeOf } from '../../../src/quant/plan/weight-rules.ts'

const MODEL = resolve(import.meta.dirname, '../../../fixtures/tiny-llama')
let analysis: Analysis
beforeAll(async () => {
  analysis = await analyze(MODEL, 32)
})

function plan(text: string, rules: WeightRules, index = 1, accuracyLevel: 0 | 4 = 0): BlockPlan {
  const scheme = parseScheme(text)
  const { blocks, values } = analysis
  const options = { scheme, accuracyLevel, let: true, values, weightSchemeOf: weightSchemeOf(scheme.weights, rules) }
  return planBlock(blocks[index]!, options)
}
const override = (pattern: string, text: string) => ({ pattern, ...parseWeightOverride(text) })
const short = (name: string): string => name.split('.').at(-1)!
/** "q_proj w4g128", ... of the quantized ones. */
const quantized = ({ quantizers }: BlockPlan): string[] =>
  [...quantizers].map(
    ([{ name }, { bits, group, symmetric }]) => `${short(name)} w${bits}g${group}${symmetric ? 'sym' : ''}`,
  )
/** Readers of quantized activations, by site. */
const readers = ({ activationSites, block }: BlockPlan): string[][] =>
  activationSites
    .filter(({ user }) => user === undefined)
    .map(site => site.readers.map(({ node }) => short(block.linears.find(linear => linear.node === node)!.name)))

const mappings = (made: BlockPlan): string[] => made.mappings.map(({ name }) => name).sort()

describe('overrides', () => {
  test('change bits, groups and symmetry of what they match', () => {
    const overrides = [
      override('mlp', 'w8g32'),
      override('layers.1.mlp.down_proj', 'w3sym'),
      override('layers.0', 'w2'),
    ]
    expect(quantized(plan('w4a16g64', { overrides }))).toEqual([
      ...['q_proj w4g64', 'k_proj w4g64', 'v_proj w4g64', 'o_proj w4g64'],
      ...['gate_proj w8g32', 'up_proj w8g32', 'down_proj w3g64sym'],
    ])
    expect(quantized(plan('w4a16g64', { overrides }, 0)).every(text => text.endsWith('w2g64'))).toBe(true)
  })

  test('with quantized activations keep one scale per output unless they say a group', () => {
    const { quantizers } = plan('w8a8', { overrides: [override('down_proj', 'w4g32'), override('up_proj', 'w4')] })
    for (const [{ name, inFeatures }, { bits, group }] of quantizers) {
      if (short(name) === 'down_proj') expect([bits, group]).toEqual([4, 32])
      else expect([bits, group]).toEqual([short(name) === 'up_proj' ? 4 : 8, inFeatures])
    }
  })

  test('are told of, as are groups wider than the weights', () => {
    const overrides = [override('down_proj', 'w8g32'), override('o_proj', 'w4g256')]
    const plans = [0, 1, 2].map(index => plan('w4a16g64', { overrides }, index))
    expect(overrideNotes(plans, parseScheme('w4a16g64').weights)).toEqual([
      '3 weights are w4g256',
      '3 weights are w8g32',
    ])
    expect(groupNotes(plans)).toEqual([
      'groups of 256 are wider than inputs of 64: those weights have one scale per output',
    ])
    const usual = [plan('w8a8', {})]
    expect([...overrideNotes(usual, parseScheme('w8a8').weights), ...groupNotes(usual)]).toEqual([])
  })
})

test('symmetric scales of the qdq format have no sign: TensorRT and WebNN refuse negative ones', () => {
  const scheme = parseScheme('w4a16', { symmetric: true })
  const signs = (format: 'integer' | 'qdq') => {
    const made = planBlock(analysis.blocks[0]!, { scheme, format, let: false, values: analysis.values })
    return [...made.quantizers.values()].map(({ positiveScale = false }) => positiveScale)
  }
  expect(new Set(signs('integer'))).toEqual(new Set([false]))
  expect(new Set(signs('qdq'))).toEqual(new Set([true]))
})

describe('accuracy_level 4', () => {
  const sites = (text: string, rules: WeightRules = {}) => {
    const made = plan(text, rules, 1, 4)
    expect(made.activationSites.every(({ by, user }) => by === 'kernel' && user === undefined)).toBe(true)
    const layouts = [...made.quantizers].map(([linear, quantizer]) => layoutOf(made, linear, quantizer))
    expect(new Set(layouts)).toEqual(new Set(['nbits']))
    expect(made.block.linears.map(linear => inputSite(made, linear))).toEqual(Array(7).fill(undefined))
    return readers(made).map((names, i) => `${made.activationSites[i]!.group}: ${names.join(' ')}`)
  }

  test('rounds what linears read, in the blocks that the weight is packed in', () => {
    expect(sites('w4a16g32')).toEqual([
      ...['32: q_proj k_proj v_proj', '32: o_proj', '32: gate_proj up_proj', '32: down_proj'],
    ])
    // One scale per output, and more than 128 inputs.
    expect(sites('w4a16g256')).toContain('256: down_proj')
    expect(sites('w2a16g256')).toContain('128: down_proj')
  })

  test('rounds a value once for each block size of its readers, not for 2 bits in blocks of 16, nor for float readers', () => {
    const overrides = [override('k_proj', 'w8g16'), override('up_proj', 'w2g16')]
    expect(sites('w4a16g64', { overrides, ignore: ['o_proj'] })).toEqual([
      ...['64: q_proj v_proj', '16: k_proj', '64: gate_proj', '64: down_proj'],
    ])
  })

  test('has transformations behind norms only, by default', () => {
    const kinds = (learned: boolean | 'norm') => {
      const [scheme, { blocks, values }] = [parseScheme('w4a16g32'), analysis]
      const options = { scheme, accuracyLevel: 4 as const, let: learned, values }
      return planBlock(blocks[1]!, options).mappings.map(({ kind }) => kind)
    }
    expect(kinds('norm')).toEqual(['norm', 'norm'])
    expect(new Set(kinds(true))).toEqual(new Set(['norm', 'value', 'query-key', 'up-down']))
    expect(kinds(false)).toEqual([])
    const { let: learned } = resolveOptions({ model: 'm.onnx', scheme: 'w4a16', accuracyLevel: 4 })
    expect(learned).toBe('norm')
  })

  test('has no part in schemes that quantize activations themselves', () => {
    for (const text of ['w8a8', 'w4a8g32'])
      expect(plan(text, {}, 1, 4).activationSites).toEqual(plan(text, {}).activationSites)
    expect(plan('w4a16g32', {}).activationSites).toEqual([])
  })
})

describe('linears that stay float', () => {
  test('have no quantizer, and read float activations', () => {
    const all = plan('w8a8', {})
    const made = plan('w8a8', { ignore: ['k_proj', 'o_proj'] })
    expect(quantized(made).map(text => text.split(' ')[0])).toEqual([
      ...['q_proj', 'v_proj', 'gate_proj', 'up_proj', 'down_proj'],
    ])
    expect(readers(all)).toEqual([['q_proj', 'k_proj', 'v_proj'], ['o_proj'], ['gate_proj', 'up_proj'], ['down_proj']])
    expect(readers(made)).toEqual([['q_proj', 'v_proj'], ['gate_proj', 'up_proj'], ['down_proj']])
  })

  test('are not transformed, nor is what would have to be undone in them', () => {
    const all = plan('w4a4', {})
    const made = plan('w4a4', { ignore: ['gate_proj'] })
    const kept = mappings(made)
    const lost = mappings(all).filter(name => !kept.includes(name))
    expect(lost).toEqual([expect.stringContaining('-> gate_proj, up_proj')])
    expect(kept.length).toBe(all.mappings.length - 1)
    expect(made.skippedMappings).toContainEqual({ at: lost[0], reason: 'layers.1.mlp.gate_proj stays float' })
    const gate = made.block.linears.find(({ name }) => name.endsWith('gate_proj'))!
    const ends = made.mappings.flatMap(({ divided, multiplied }) => [...divided, ...multiplied])
    expect(ends.some(end => end.kind !== 'vector' && end.linear === gate)).toBe(false)
    expect(made.changedSites.length).toBe(all.changedSites.length - 1)
  })

  test('all of a block: nothing in it is quantized', () => {
    const made = plan('w4a4', { ignore: ['layers.1'] })
    expect(made).toMatchObject({ activationSites: [], mappings: [], changedSites: [], addedBiases: [], notes: [] })
    expect(made.quantizers.size).toBe(0)
    expect(plan('w4a4', { ignore: ['layers.1'] }, 0).quantizers.size).toBe(7)
  })
})
