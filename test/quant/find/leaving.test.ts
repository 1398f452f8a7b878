/** @file Values that leave the user's graph besides the logits, and the mappings that would scale them. */

import { resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { Graph, Node, Value } from '../../../src/graph/ir.ts'
import { normalize } from '../../../src/graph/passes/normalize.ts'
import { runGraph } from '../../../src/kernels/session.ts'
import { analyze } from '../../../src/quant/find/analyze.ts'
import { findBlocks } from '../../../src/quant/find/blocks.ts'
import { planBranches } from '../../../src/quant/plan/plan-branches.ts'
import { leavingValues } from '../../../src/quant/find/leaving.ts'
import { findMappings } from '../../../src/quant/plan/mappings/mappings.ts'
import { type Mapping } from '../../../src/quant/plan/mappings/mapping.ts'
import { parseScheme } from '../../../src/quant/terms/scheme.ts'
import { writeMergedModel } from '../../helpers/merged-model.ts'
import { testFolder } from '../../helpers/test-folder.ts'
import { toyDecoder, type ToyGraph } from '../../helpers/toy-decoder.ts'

const FIXTURE = resolve(import.meta.dirname, '../../../fixtures/tiny-llama')

const kindsOf = (mappings: readonly Mapping[]): string[] => mappings.map(({ kind }) => kind).sort()
const ALL = ['norm', 'norm', 'query-key', 'up-down', 'value']

/** Outputs that a toy decoder's mappings change, and the mappings made when no output may change. */
async function mappingsOf({ model, graph }: ToyGraph) {
  const copy = await normalize(model, {
    ...{ fixedInputs: new Map(), shapes: new Map([['input_ids', [1, 8]]]), outputs: ['logits'] },
    evaluate: constants => runGraph(constants, {}, { optimization: 'disabled' }),
  })
  const values = leavingValues(copy, graph.outputs.slice(1))
  const [block] = findBlocks(copy.graph)
  const mayChange = new Set(graph.outputs.map(({ name }) => name))
  const { mappings } = findMappings(block!, { values, mayChange })
  const kept = findMappings(block!, { values, mayChange: new Set() })
  return {
    changed: Object.fromEntries(mappings.flatMap(({ kind, outputs }) => (outputs.length > 0 ? [[kind, outputs]] : []))),
    kept: kindsOf(kept.mappings),
    reasons: kept.skipped.map(({ reason }) => reason),
  }
}

/** A toy decoder of one layer whose graph gives `name` as well. */
function toyWith(name: string, make: (toy: ToyGraph) => Value): ToyGraph {
  const toy = toyDecoder({ layers: 1 })
  const output = make(toy)
  output.name = name
  toy.graph.outputs.push(output)
  return toy
}

const nodeOf = ({ graph }: ToyGraph, name: string): Node => graph.nodes.find(node => node.name === name)!
const ATTENTION = '/layers.0/attn/MultiHeadAttention'
const V_PROJ = '/layers.0/attn/v_proj/MatMul'

describe('an output', () => {
  test('that attention reads as well belongs to the mapping of keys, or of values', async () => {
    const { blocks, leaving } = await analyze(FIXTURE, 8)
    for (const block of blocks) {
      const { mappings } = findMappings(block, leaving)
      expect(mappings.map(({ kind, outputs }) => [kind, ...outputs])).toEqual([
        ['norm'],
        ['query-key', `present.${block.index}.key`],
        ['value', `present.${block.index}.value`],
        ['norm'],
        ['up-down'],
      ])
      // Without outputs nothing is known of them.
      expect(findMappings(block).mappings.flatMap(({ outputs }) => outputs)).toEqual([])
      const { mappings: kept, skipped } = findMappings(block, { ...leaving, mayChange: new Set() })
      expect(kindsOf(kept)).toEqual(['norm', 'norm', 'up-down'])
      expect(skipped).toEqual([
        {
          at: 'q_proj -> k_proj',
          reason: `"present.${block.index}.key" is made of it, an output that stays as it is`,
        },
        {
          at: 'v_proj -> o_proj',
          reason: `"present.${block.index}.value" is made of it, an output that stays as it is`,
        },
      ])
    }
  })

  test('that nothing else reads, behind an operator nobody knows, holds what that reads', async () => {
    const toy = toyWith('copy', toy => toy.op('/copy', 'com.example.Scramble', [nodeOf(toy, V_PROJ).outputs[0]]))
    const { changed, kept, reasons } = await mappingsOf(toy)
    expect(changed).toEqual({ value: ['copy'] })
    expect(kept).toEqual(ALL.filter(kind => kind !== 'value'))
    expect(reasons).toEqual(['"copy" is made of it, an output that stays as it is'])
  })

  test('that a norm makes holds that norm, and one of the residual stream nothing that could be scaled', async () => {
    const norm = '/layers.0/post_norm/SimplifiedLayerNormalization'
    const normed = await mappingsOf(toyWith('states', toy => toy.op('', 'Identity', [nodeOf(toy, norm).outputs[0]])))
    expect(normed.changed).toEqual({ norm: ['states'] })
    expect(normed.kept).toEqual(ALL.slice(1))
    const residual = await mappingsOf(toyWith('states', toy => toy.op('', 'Identity', [nodeOf(toy, norm).inputs[0]])))
    expect(residual).toEqual({ changed: {}, kept: ALL, reasons: [] })
  })

  test('of a fused node may be any of the values inside', async () => {
    const toy = toyWith('present.0.value', toy => {
      const [key, value] = [new Value('key'), new Value('value')]
      const { inputs, outputs, attributes } = nodeOf(toy, ATTENTION)
      const index = toy.graph.nodes.indexOf(nodeOf(toy, ATTENTION))
      const given = [outputs[0]!, key, value]
      toy.graph.nodes[index] = new Node('MultiHeadAttention', inputs, given, attributes, 'com.microsoft', ATTENTION)
      return value
    })
    const { changed, kept } = await mappingsOf(toy)
    expect(changed).toEqual({ 'query-key': ['present.0.value'], value: ['present.0.value'] })
    expect(kept).toEqual(['norm', 'norm', 'up-down'])
  })

  test('of a function is any of the values inside', async () => {
    const toy = toyWith('present.0.value', toy => {
      const body = new Graph('attend')
      const [q, k, v, y, kept] = ['q', 'k', 'v', 'y', 'kept'].map(name => new Value(name))
      const node = nodeOf(toy, ATTENTION)
      body.inputs = [q!, k!, v!]
      body.outputs = [y!, kept!]
      body.nodes = [
        new Node('MultiHeadAttention', [q, k, v], [y], node.attributes, 'com.microsoft', 'mha'),
        new Node('Identity', [v], [kept], new Map(), '', 'keep'),
      ]
      const attend = { body, defaults: new Map<string, never>(), opset: 17 }
      toy.model.functions = new Map([['pkg.attend', attend]])
      const given = [node.outputs[0]!, new Value('kept')]
      const call = new Node('attend', node.inputs, given, new Map(), 'pkg', '/layers.0/attn/attend')
      toy.graph.nodes[toy.graph.nodes.indexOf(node)] = call
      return given[1]!
    })
    const { changed, kept } = await mappingsOf(toy)
    expect(changed).toEqual({ 'query-key': ['present.0.value'], value: ['present.0.value'] })
    expect(kept).toEqual(['norm', 'norm', 'up-down'])
  })

  test('made of masks or constants holds nothing', async () => {
    const toy = toyWith('width', toy => toy.op('', 'Shape', [toy.graph.inputs[0]]))
    expect(await mappingsOf(toy)).toEqual({ changed: {}, kept: ALL, reasons: [] })
  })
})

test('merged files: both branches scale the same outputs, or neither does', async () => {
  const { blocks, values, leaving, otherBranch } = await analyze(await writeMergedModel(testFolder()), 16)
  const plan = (mayChange: ReadonlySet<string>) =>
    blocks.map(block =>
      planBranches(
        block,
        { scheme: parseScheme('w4a4'), let: true, values, leaving: { ...leaving, mayChange } },
        otherBranch,
      ),
    )
  for (const { mappings, block } of plan(leaving.mayChange))
    expect(mappings.flatMap(({ outputs }) => outputs)).toEqual([
      `present.${block.index}.key`,
      `present.${block.index}.value`,
    ])
  for (const { mappings, changedSites, otherBranch, notes } of plan(new Set())) {
    expect(kindsOf(mappings)).toEqual(['norm', 'norm', 'up-down'])
    expect(otherBranch!.sites).toHaveLength(changedSites.length)
    expect(notes).toEqual([])
  }
})
