/** @file Mappings found in real exporters' files. They leave the block as it is, to nine digits in float64. */

import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { analyze } from '../../src/quant/find/analyze.ts'
import { findMappings } from '../../src/quant/plan/mappings/mappings.ts'
import { type Mapping } from '../../src/quant/plan/mappings/mapping.ts'
import { insideErrors, mappingErrors } from '../helpers/float64-block.ts'
import { needsShared, sharedDir } from '../helpers/shared.ts'
import { FILES as CACHED } from './files.ts'

/**
 * Mappings of an architecture, from ../shared/design/exporters.md and its sizes: `kind size`, with + where the mapping has a shift.
 */
interface Expected {
  readonly mappings: readonly string[]
  readonly skipped?: readonly RegExp[]
}

/** Hidden 64, 4 heads of 16 over 2 key heads, FFN 128; a pair of rotary channels has one scale. */
const llama: Expected = { mappings: ['norm 64', 'query-key 16', 'value 32', 'norm 64', 'up-down 128'] }
/** hidden 256, 8 heads of 32, FFN 704. */
const wiki = (kvHeads: number): Expected => ({
  mappings: ['norm 256', `query-key ${kvHeads * 16}`, `value ${kvHeads * 32}`, 'norm 256', 'up-down 704'],
})
/** LayerNorm and biases, and an activation through which no scale passes: both norms and v can be shifted. */
const gelu = (queryKey: number, why: RegExp): Expected => ({
  mappings: ['norm 64 +', `query-key ${queryKey}`, 'value 64 +', 'norm 64 +'],
  skipped: [why],
})
/** ReLU passes scales on. */
const opt = (hidden: number, ffn: number): Expected => ({
  mappings: [`norm ${hidden} +`, `query-key ${hidden}`, `value ${hidden} +`, `norm ${hidden} +`, `up-down ${ffn}`],
})
/** The gains of q_norm and k_norm, shared by all heads, take the scale: 8 pairs. */
const qwen3: Expected = { mappings: ['norm 64', 'query-key 8', 'value 32', 'norm 64', 'up-down 128'] }

const FILES: Record<string, Expected> = {
  'models/wiki-llama/optimum-past': wiki(4),
  'models/wiki-llama/optimum-nopast': wiki(4),
  'models/wiki-llama/genai-fp32': wiki(4),
  'models/wiki-llama/genai-fp16': wiki(4),
  'models/wiki-llama-mha/optimum-nopast': wiki(8),
  'models/wiki-llama-outlier/optimum-past': wiki(4),
  'models/wiki-opt/optimum-past': opt(192, 768),
  'zoo/optimum-llama-past': llama,
  'zoo/optimum-llama-nopast': llama,
  'zoo/optimum-llama-opset14': llama,
  'zoo/optimum-llama-eager': llama,
  'zoo/optimum-llama-external': llama,
  'zoo/optimum-llama-tied': llama,
  'zoo/optimum-llama-fp16': llama,
  // Biases on q, k and v: v's can be shifted.
  'zoo/optimum-qwen2': { mappings: ['norm 64', 'query-key 16', 'value 32 +', 'norm 64', 'up-down 128'] },
  'zoo/optimum-qwen3': qwen3,
  'zoo/optimum-opt': opt(64, 128),
  'zoo/optimum-gpt2': gelu(64, /^c_fc -> c_proj: Pow /),
  // qkv and gate_up are one product each; only their v and up columns are in value and up-down.
  'zoo/optimum-phi3': llama,
  // A quarter of each of 4 heads turns: 2 pairs and 12 channels of their own.
  'zoo/optimum-gptneox': gelu(4 * (2 + 12), /^dense_h_to_4h -> dense_4h_to_h: Erf /),
  // One norm before attention and MLP in parallel; one key head; no biases on linears.
  'zoo/optimum-falcon': {
    mappings: ['norm 64 +', 'query-key 8', 'value 16'],
    skipped: [/^dense_h_to_4h -> dense_4h_to_h: Erf /],
  },
  'zoo/optimum-bloom': gelu(64, /^dense_h_to_4h -> dense_4h_to_h: Mul .* multiplies it with itself/),
  // Norms behind o_proj and down_proj end in the residual: no linear reads them.
  'zoo/optimum-gemma2-eager': llama,
  'zoo/genai-llama-fp32': llama,
  'zoo/genai-llama-fp16': llama,
  'zoo/genai-llama-tied': llama,
  'zoo/genai-llama-dml': llama,
  'zoo/genai-qwen3': qwen3,
  // One norm for attention and MLP; 4 heads of 16, half of each turns: 4 pairs and 8 channels; its biases are dropped as zeros.
  'zoo/genai-phi2': { mappings: ['norm 64 +', 'query-key 48', 'value 64'], skipped: [/^fc1 -> fc2: Gelu /] },
  'zoo/dynamo-llama-opset20': llama,
  'zoo/dynamo-llama-opset23': llama,
  'zoo/dynamo-llama-tied': llama,
  // Made without rotary embedding: 2 key heads of 16 free channels.
  'zoo/mobius-llama': { mappings: ['norm 64', 'query-key 32', 'value 32', 'norm 64', 'up-down 128'] },
  'zoo/ort-optimized-llama': llama,
}

const describeMapping = ({ kind, size, shift }: Mapping): string => `${kind} ${size}${shift ? ' +' : ''}`

describe('mappings of real files', needsShared, () => {
  test.each(Object.entries(FILES))('%s', async (name, expected) => {
    const { blocks } = await analyze(join(sharedDir!, name, 'model.onnx'), 8)
    for (const block of blocks) {
      const { mappings, skipped } = findMappings(block)
      expect(mappings.map(describeMapping).sort()).toEqual([...expected.mappings].sort())
      expect(skipped.map(({ at, reason }) => `${at}: ${reason}`)).toEqual(
        (expected.skipped ?? []).map(pattern => expect.stringMatching(pattern) as string),
      )
    }
    const block = blocks.at(-1)!
    const { all, halves } = await mappingErrors(block, findMappings(block).mappings)
    expect(all).toBeLessThan(1e-9)
    expect(Math.min(...halves)).toBeGreaterThan(1e-6)
  })

  test.each(Object.keys(FILES).filter(name => CACHED[name]?.cache))(
    '%s: what leaves the graph as keys and values is found, and stays as it is where it has to',
    async name => {
      const { blocks, leaving, io } = await analyze(join(sharedDir!, name, 'model.onnx'), 8)
      expect([...leaving.mayChange].sort()).toEqual(io.past.map(({ present }) => present).sort())
      const outputs = new Set([...leaving.values.values()].flatMap(names => [...names]))
      expect([...outputs].sort()).toEqual([...leaving.mayChange].sort())
      const block = blocks.at(-1)!
      const made = new Set(block.nodes.flatMap(node => node.outputs))
      const values = [...leaving.values.keys()].filter(value => made.has(value))

      const free = findMappings(block, leaving)
      const scaled = free.mappings.filter(mapping => mapping.outputs.length > 0)
      expect(scaled.map(({ kind }) => kind).sort()).toEqual(['query-key', 'value'])
      for (const { outputs: names } of scaled) expect(names.join()).toMatch(/present/)
      expect(Math.max(...(await insideErrors(block, free.mappings, values)))).toBeGreaterThan(0.1)

      const kept = findMappings(block, { ...leaving, mayChange: new Set() })
      expect(kept.mappings).toEqual(free.mappings.filter(mapping => mapping.outputs.length === 0))
      expect(kept.skipped.map(({ reason }) => reason).sort()).toEqual([
        ...['"present', '"present'].map(start => expect.stringContaining(start) as string),
        ...free.skipped.map(({ reason }) => reason),
      ])
      const errors = await insideErrors(block, kept.mappings, values)
      expect(Math.max(...errors)).toBeLessThan(1e-9)
    },
  )

  test('a fused q, k, v product gives each of its columns to one mapping', async () => {
    for (const name of [
      'models/wiki-llama/genai-fp32',
      'zoo/optimum-gptneox',
      'zoo/optimum-bloom',
      'zoo/optimum-falcon',
    ]) {
      const { blocks } = await analyze(join(sharedDir!, name, 'model.onnx'), 8)
      const [fused] = blocks[0]!.linears
      const ends = findMappings(blocks[0]!).mappings.flatMap(({ divided, multiplied }) => [...divided, ...multiplied])
      const owned = ends.flatMap(end => (end.kind === 'columns' && end.linear === fused ? [end.scales] : []))
      expect(owned.length).toBe(3)
      for (let column = 0; column < fused!.outFeatures; column++)
        expect(owned.filter(scales => scales[column]! >= 0).length).toBe(1)
    }
  })

  test('names say what they are, wherever the exporter shows it', async () => {
    const namesOf = async (name: string) =>
      findMappings((await analyze(join(sharedDir!, name, 'model.onnx'), 8)).blocks[0]!).mappings.map(
        mapping => mapping.name,
      )
    expect(await namesOf('zoo/optimum-qwen3')).toEqual([
      'input_layernorm -> q_proj, k_proj, v_proj',
      'q_norm -> k_norm',
      'v_proj -> o_proj',
      'post_attention_layernorm -> gate_proj, up_proj',
      'up_proj -> down_proj',
    ])
    expect(await namesOf('zoo/optimum-gpt2')).toEqual([
      'ln_1 -> c_attn',
      'c_attn: queries -> keys',
      'c_attn -> c_proj',
      'ln_2 -> c_fc',
    ])
    expect((await namesOf('zoo/ort-optimized-llama'))[0]).toBe('input_layernorm -> k_proj, q_proj, v_proj')
  })
})
