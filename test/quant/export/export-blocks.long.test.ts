/** @file The exported file computes what the forward pass of the training program computed. */

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readNumbers } from '../../../src/graph/tensor.ts'
import { loadModel } from '../../../src/graph/onnx-file/load.ts'
import { analyze } from '../../../src/quant/find/analyze.ts'
import { roundBlock } from '../../../src/quant/learn/round-block.ts'
import { blockPlanner } from '../../../src/quant/plan/block-planner.ts'
import type { ExportOptions } from '../../../src/quant/terms/options.ts'
import { exportBlocks } from '../../../src/quant/export/export-blocks.ts'
import { parseScheme, type SchemeOverrides, schemeName } from '../../../src/quant/terms/scheme.ts'
import type { WeightRules } from '../../../src/quant/terms/scheme.ts'
import { methodOf } from '../../helpers/method.ts'
import { shipped } from '../../helpers/shipped.ts'

const MODEL = resolve(import.meta.dirname, '../../../fixtures/tiny-llama')
const TOKENS = 32

const SIZES = { tokens: TOKENS, vocabulary: 300 }

/** Fewer numbers that lie next to the middle between two codes, where another order of a sum rounds the other way. */
const FEW = { tokens: 8, vocabulary: 300 }

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'omniquant-export-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

const METHOD = { lwc: true, epochs: 3, learningRate: 5e-2, schedule: 'constant' as const, session: {} }

const STATIC: SchemeOverrides = { staticActivations: true }

describe('what is trained is what ships', () => {
  const rules: WeightRules = {
    ignore: ['v_proj', 'layers.0.mlp.up_proj', 'layers.1'],
    overrides: [
      { pattern: 'down_proj', bits: 8, group: 32 },
      { pattern: 'layers.2.*.q_proj', bits: 3, symmetric: true },
    ],
  }
  test.each<[string, SchemeOverrides, ExportOptions['format'] | undefined, number, WeightRules?]>([
    ['w4a16g32', {}, undefined, 1e-5],
    ['w3a16', { perChannel: true }, undefined, 1e-5],
    ['w2a16g16', {}, undefined, 1e-5],
    ['w5a16g64', { symmetric: true }, undefined, 1e-5],
    ['w2a16g16', { symmetric: true }, undefined, 1e-5],
    ['w8a16', {}, undefined, 1e-5],
    // A number that rounds the other way, because sums were made in another order, moves a whole step: hence the wider bound.
    ['w8a8', {}, 'integer', 1e-4],
    ['w6a6', {}, 'integer', 1e-4],
    ['w4a4', {}, 'integer', 1e-4],
    ['w4a4', {}, 'portable', 1e-4],
    ['w4a8', { symmetric: true, symmetricActivations: true }, 'integer', 1e-4],
    ['w4a8g32', {}, 'integer', 1e-4],
    ['w4a16g32', {}, 'qdq', 1e-5],
    ['w4a16g64', { symmetric: true }, 'qdq', 1e-5],
    ['w8a16', { perChannel: true }, 'qdq', 1e-5],
    ['w2a16g16', {}, 'qdq', 1e-5],
    ['w3a16', { perChannel: true, symmetric: true }, 'qdq', 1e-5, rules],
    ['w8a8', STATIC, 'integer', 1e-4],
    ['w4a8', STATIC, 'portable', 1e-4],
    ['w8a8', STATIC, 'qdq', 1e-4],
    ['w4a8g32', STATIC, 'qdq', 1e-4],
    ['w8a16', { ...STATIC, perChannel: true }, 'qdq', 1e-4],
    ['w4a16g64', {}, undefined, 1e-5, rules],
    ['w4a6', {}, 'integer', 1e-4, rules],
  ])('%s %o %s: every block of the file gives the trained output; %d, %o', async (...row) => {
    const [text, overrides, format, tolerance, exceptions] = row
    const scheme = parseScheme(text, overrides)
    const work = join(folder, `${schemeName(scheme)}-${format}-${exceptions !== undefined}`)
    mkdirSync(work)
    const { finished, errors } = await shipped(
      MODEL,
      work,
      { ...METHOD, ...exceptions, scheme },
      { ...(format && { format }) },
      scheme.activations ? FEW : SIZES,
    )
    expect(finished.map(({ report }) => report.linears.length)).toEqual(exceptions ? [5, 0, 6] : [7, 7, 7])
    expect(finished.map(({ report }) => report.kept !== undefined)).toEqual([true, exceptions === undefined, true])
    errors.forEach((error, i) => expect(error, `block ${i}`).toBeLessThan(tolerance))
  })
})

describe('accuracy_level 4: what is trained is what ships', () => {
  const overrides = [
    { pattern: 'down_proj', bits: 8, group: 16 },
    { pattern: 'v_proj', bits: 2, group: 16 },
    { pattern: 'k_proj', bits: 3 },
  ]
  test.each<[string, SchemeOverrides, boolean, WeightRules?]>([
    ['w4a16g32', {}, false],
    ['w4a16g32', {}, true],
    ['w4a16', { perChannel: true, symmetric: true }, false],
    ['w2a16', { perChannel: true }, false],
    ['w8a16g16', {}, false],
    // q, k and v read one value, in blocks of 64, 64 and 16, the last of which has no kernel for 2 bits.
    ['w4a16g64', {}, false, { overrides }],
  ])('%s %o, transformations %s, %o', async (text, overrides, withTransformations, rules) => {
    const scheme = parseScheme(text, overrides)
    const work = mkdtempSync(join(folder, 'level4-'))
    const method = { ...METHOD, ...rules, let: withTransformations, accuracyLevel: 4 as const, scheme }
    const { finished, errors } = await shipped(MODEL, work, method, {}, FEW)
    // With 8 bits rounding to nearest may be the better.
    if (text !== 'w8a16g16') expect(finished.map(({ report }) => report.kept)).toContain('learned')
    for (const [i, error] of errors.entries()) expect(error, `block ${i}`).toBeLessThan(1e-4)
    const nodes = loadModel(join(work, 'plain.onnx')).graph.nodes.filter(({ opType }) => opType === 'MatMulNBits')
    expect(nodes.map(node => node.int('accuracy_level', 0))).toEqual(Array<number>(21).fill(4))
  })

  test('and what is trained at level 0 is not: the rounding is no small thing', async () => {
    const work = mkdtempSync(join(folder, 'level0-'))
    const method = { ...METHOD, scheme: parseScheme('w4a16g32') }
    const { errors } = await shipped(MODEL, work, method, { accuracyLevel: 4 }, SIZES)
    expect(Math.min(...errors)).toBeGreaterThan(1e-3)
  })
})

test('the graph around the linears stays as it was', async () => {
  const before = loadModel(join(MODEL, 'model.onnx'))
  const analysis = await analyze(MODEL, TOKENS)
  const method = methodOf({ ...METHOD, scheme: parseScheme('w4a16g32') })
  const planOf = blockPlanner(method, analysis)
  const finished = analysis.blocks.map(block => roundBlock(planOf(block), { method, blocks: 3 }))
  exportBlocks(analysis.model, finished, { accuracyLevel: 4, format: 'integer' })
  const exported = analysis.blocks.flatMap(({ linears }) => linears)
  const { graph, opsetImports } = analysis.model
  const quantized = graph.nodes.filter(node => node.opType === 'MatMulNBits')
  expect(quantized.length).toBe(21)
  expect(quantized.every(node => node.int('accuracy_level', 0) === 4)).toBe(true)
  expect(opsetImports).toContainEqual({ domain: 'com.microsoft', version: 1 })
  const others = (nodes: typeof graph.nodes) =>
    nodes.filter(node => node.opType !== 'MatMulNBits').map(node => `${node.opType} ${node.name}`)
  const replaced = new Set(exported.map(({ origin }) => origin.name))
  expect(others(graph.nodes)).toEqual(others(before.graph.nodes.filter(node => !replaced.has(node.name))))
  const weights = new Set(exported.map(({ origin }) => origin.inputs[1]!.name))
  for (const { name } of before.graph.initializers)
    expect(
      graph.initializers.some(value => value.name === name),
      name,
    ).toBe(!weights.has(name))
})

test.each<[string, string, number]>([
  ['w4a16g32', 'MatMulNBits', 3],
  ['w2a16g16', 'MatMulNBits', 3],
  // x, weight, scales of x and of the weight, zero point of x.
  ['w8a8', 'MatMulIntegerToFloat', 5],
])('symmetric %s: %s has scales of both signs and no zero points of weights', async (text, kind, inputs) => {
  const analysis = await analyze(MODEL, TOKENS)
  const method = methodOf({ ...METHOD, scheme: parseScheme(text, { symmetric: true }) })
  const planOf = blockPlanner(method, analysis)
  const finished = analysis.blocks.map(block => roundBlock(planOf(block), { method, blocks: 3 }))
  exportBlocks(analysis.model, finished, { accuracyLevel: 0, format: 'integer' })
  const { nodes, initializers } = analysis.model.graph
  const products = nodes.filter(({ opType }) => opType === kind)
  expect(products.length).toBe(21)
  for (const node of products) {
    expect(node.inputs.length).toBe(inputs)
    const scales = readNumbers(node.inputs[kind === 'MatMulNBits' ? 2 : 3]!.tensor!)
    expect(new Set(scales.map(Math.sign)), node.name).toEqual(new Set([1, -1]))
  }
  expect(initializers.filter(({ name }) => name.includes('zero_point'))).toEqual([])
})
