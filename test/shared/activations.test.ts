/**
 * @file Places where queries, keys and values are quantized in real exporters' files: behind the rotary embedding wherever the
 * graph shows it.
 */

import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { staticShape } from '../../src/graph/shape.ts'
import { findActivationSites } from '../../src/quant/plan/activation-sites.ts'
import { analyze } from '../../src/quant/find/analyze.ts'
import { needsShared, sharedDir } from '../helpers/shared.ts'

const ROTATED = ['Add [1,4,24,16]', 'Add [1,2,24,16]', 'Reshape [1,24,2,16]']
const PLAIN = ['Reshape [1,24,4,16]', 'Reshape [1,24,4,16]', 'Reshape [1,24,4,16]']

/** File -> user's nodes whose outputs are quantized, and their shapes for 24 tokens; 4 heads of 16, 2 of keys and values. */
const FILES: Record<string, readonly string[]> = {
  'optimum-llama-past': ROTATED,
  'optimum-llama-nopast': ROTATED,
  'optimum-llama-opset14': ROTATED,
  'optimum-llama-fp16': ROTATED,
  'dynamo-llama-opset20': ROTATED,
  'optimum-qwen3': ROTATED,
  'optimum-phi3': ROTATED,
  'optimum-opt': PLAIN,
  'optimum-gpt2': PLAIN,
  // Part of a head is rotated and joined with the rest.
  'optimum-gptneox': ['Concat [1,4,24,16]', 'Concat [1,4,24,16]', 'Slice [1,4,24,16]'],
  // The rotary embedding is a node of its own.
  'dynamo-llama-opset23': ['RotaryEmbedding [1,4,24,16]', 'RotaryEmbedding [1,2,24,16]', 'Reshape [1,24,2,16]'],
  'genai-llama-dml': ['RotaryEmbedding [1,24,64]', 'RotaryEmbedding [1,24,32]', 'MatMul [1,24,32]'],
  // The rotary embedding is inside the attention node: q, k and v are quantized before it, in one where they come so.
  'mobius-llama': ['MatMul [1,24,64]', 'MatMul [1,24,32]', 'MatMul [1,24,32]'],
  'genai-llama-fp32': ['MatMul [1,24,128]'],
  // One value head, taken out of six heads of queries, keys and values.
  'optimum-falcon': ['Add [1,4,24,16]', 'Add [1,1,24,16]', 'Gather [1,24,1,16]'],
}

describe('queries, keys and values', needsShared, () => {
  test.each(Object.entries(FILES))('%s', async (file, expected) => {
    const { blocks, values } = await analyze(join(sharedDir!, 'zoo', file), 24)
    for (const block of blocks) {
      const { sites, refused } = findActivationSites(block, { bits: 8, symmetric: false }, values)
      const attention = sites.filter(({ user }) => user !== undefined)
      expect(attention.map(({ user, value }) => `${user!.producer!.opType} [${staticShape(value)}]`)).toEqual(expected)
      for (const { group } of attention) expect(group).toBe(16)
      const inputs = new Set(block.linears.map(({ node }) => node.inputs[0]))
      expect(sites.length - attention.length).toBe(inputs.size)
      expect(refused).toBeUndefined()
    }
  })
})
