/** @file Experts and routers by structure: a decoder block whose experts all see every token (Mixtral as torch dynamo and mobius write it). */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ActivationStore } from '../../../src/calibration/activation-store.ts'
import { Builder } from '../../../src/graph/builder.ts'
import { Graph, newModel, type Value } from '../../../src/graph/ir.ts'
import { staticShape } from '../../../src/graph/shape.ts'
import { floatTensor, int64Tensor, readBytes } from '../../../src/graph/tensor.ts'
import type { PackedWeight } from '../../../src/kernels/pack/matmul-nbits.ts'
import { learnBlock } from '../../../src/quant/learn/learn-block.ts'
import { roundBlock } from '../../../src/quant/learn/round-block.ts'
import { blockPlanner } from '../../../src/quant/plan/block-planner.ts'
import { type FinishedBlock } from '../../../src/quant/learn/finished-block.ts'
import { type HiddenStates } from '../../../src/quant/learn/hidden-states.ts'
import { type Block, findBlocks } from '../../../src/quant/find/blocks.ts'
import { findExperts } from '../../../src/quant/find/experts.ts'
import { fewTokensNote } from '../../../src/quant/notes.ts'
import { TokenCounts } from '../../../src/quant/learn/token-counts.ts'
import { exportBlocks } from '../../../src/quant/export/export-blocks.ts'
import { planBlock } from '../../../src/quant/plan/plan-block.ts'
import { floatVersion, readWeights } from '../../../src/quant/learn/block-version.ts'
import { runBlock } from '../../../src/quant/learn/run-block.ts'
import { parseScheme } from '../../../src/quant/terms/scheme.ts'
import { equivalenceError } from '../../helpers/equivalence.ts'
import { noise } from '../../kernels/weights.ts'
import { methodOf } from '../../helpers/method.ts'

const [T, H, I, E, K] = [12, 32, 48, 4, 2]
/** Biases of the experts' logits: the last expert is hardly ever chosen. */
const LIKED = [0.3, 0, 0.2, -4]

class Decoder {
  readonly g: Builder = new Builder(new Graph('decoder'))
  private seed = 1

  weight(name: string, rows: number, columns: number): Value {
    const numbers = noise(rows * columns, this.seed++).map(x => x / Math.sqrt(rows))
    return this.g.initializer(name, floatTensor([rows, columns], numbers))
  }

  linear(x: Value, name: string, columns: number): Value {
    const product = this.g.matMul(x, this.weight(`${name}.weight`, staticShape(x).at(-1)!, columns))
    product.producer!.name = `/model/${name.replaceAll('.', '/')}/MatMul`
    return product
  }

  norm(x: Value, name: string): Value {
    const { g } = this
    const scale = g.op('Sqrt', [g.shift(g.reduceMean(g.mul(x, x), [-1]), 1e-5)])
    return g.mul(
      g.div(x, scale),
      g.initializer(
        name,
        floatTensor(
          [H],
          noise(H, 77).map(gain => 1 + gain / 4),
        ),
      ),
    )
  }

  attention(x: Value, block: string): Value {
    const { g } = this
    const [q, k, v] = ['q_proj', 'k_proj', 'v_proj'].map(name => this.linear(x, `${block}.self_attn.${name}`, H))
    const scores = g.scale(g.matMul(q!, g.transposeLast(k!)), 1 / Math.sqrt(H))
    return this.linear(g.matMul(g.op('Softmax', [scores], { axis: -1 }), v!), `${block}.self_attn.o_proj`, H)
  }

  /** Every expert on every token; weights by Equal with what the TopK chose, Mul and ReduceSum. */
  experts(x: Value, block: string): Value {
    const { g } = this
    const logits = g.add(this.linear(x, `${block}.gate`, E), g.initializer('liked', floatTensor([E], LIKED)))
    const [values, chosen] = g.ops('TopK', [g.op('Softmax', [logits], { axis: -1 }), g.ints([K])], 2, { axis: -1 })
    const weights = g.div(values!, g.reduceSum(values!, [-1]))
    const results = Array.from({ length: E }, (_, e) => {
      const here = g.cast(g.op('Equal', [chosen, g.initializer('expert', int64Tensor([], [e]))]), 'float32')
      const weight = g.reduceSum(g.mul(here, weights), [-1])
      const name = `${block}.experts.${e}`
      const gate = this.linear(x, `${name}.w1`, I)
      const inner = g.mul(g.mul(gate, g.op('Sigmoid', [gate])), this.linear(x, `${name}.w3`, I))
      return g.mul(this.linear(inner, `${name}.w2`, H), weight)
    })
    return results.reduce((a, b) => g.add(a, b))
  }

  block(x: Value, index: number): Value {
    const name = `layers.${index}`
    const middle = this.g.add(x, this.attention(this.norm(x, `${name}.norm`), name))
    return this.g.add(middle, this.experts(this.norm(middle, `${name}.post_norm`), name))
  }
}

/** Two blocks; each node is its own origin, as if a user's graph needed no rewriting. */
function decoder(): Graph {
  const d = new Decoder()
  let x = d.g.input('x', 'float32', [1, T, H])
  for (let i = 0; i < 2; i++) x = d.block(x, i)
  d.g.output(d.linear(d.norm(x, 'norm'), 'lm_head', 40), 'logits')
  for (const node of d.g.graph.nodes) node.origin = node
  return d.g.graph
}

const valuesOf = (graph: Graph) =>
  new Map(
    [...graph.initializers, ...graph.nodes.flatMap(({ outputs }) => outputs)].map(value => [value!, value!] as const),
  )

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'omniquant-experts-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

describe('experts that all see every token', () => {
  const names = ['q', 'k', 'v', 'o'].map(name => `self_attn.${name}_proj`)
  const expertNames = (e: number) => ['w1', 'w3', 'w2'].map(name => `layers.0.experts.${e}.${name}`)

  test('blocks are found, with all linears but the router', () => {
    const blocks = findBlocks(decoder())
    expect(blocks.map(({ linears }) => linears.length)).toEqual([4 + 3 * E, 4 + 3 * E])
    const found = blocks[0]!.linears.map(({ name }) => name)
    expect(found.sort()).toEqual(
      [...names.map(name => `layers.0.${name}`), ...[0, 1, 2, 3].flatMap(expertNames)].sort(),
    )
    expect(blocks[0]!.skipped.map(({ at, reason }) => [at.name, reason])).toEqual([
      ['/model/layers/0/gate/MatMul', 'router: which experts a token is sent to depends on it'],
    ])
  })

  test('linears that see the same tokens are an expert', () => {
    const experts = findExperts(findBlocks(decoder())[0]!)
    expect(experts.map(({ linears }) => linears.map(({ name }) => name).sort())).toEqual(
      [0, 1, 2, 3].map(e => expertNames(e).sort()),
    )
  })

  test('a norm that the router reads as well is scaled with it: the block stays what it was, to 1e-9', async () => {
    const graph = decoder()
    const plan = planBlock(findBlocks(graph)[0]!, { scheme: parseScheme('w4a4'), let: true, values: valuesOf(graph) })
    const reading = plan.mappings.filter(({ multiplied }) => multiplied.length > 3)
    expect(reading.map(({ kind }) => kind)).toEqual(['norm'])
    expect(plan.changedSites.map(({ node }) => node.name)).toContain('/model/layers/0/gate/MatMul')
    expect(plan.mappings.filter(({ kind }) => kind === 'up-down')).toHaveLength(E)
    expect(await equivalenceError(plan)).toBeLessThan(1e-9)
  })

  /** Inputs of a block for 3 samples. */
  function statesOf(block: Block): HiddenStates {
    const open = (name: string) => new ActivationStore(join(folder, name), 3, staticShape(block.input))
    const [float, quantized] = [open('float'), open('quantized')]
    const states: HiddenStates = {
      float,
      quantized,
      nextFloat: open('next-float'),
      nextQuantized: open('next-quantized'),
    }
    for (let i = 0; i < 3; i++)
      for (const store of [states.float, states.quantized]) store.write(i, noise(T * H, 50 + i))
    return states
  }

  test('tokens of every expert are counted', async () => {
    const graph = decoder()
    const block = findBlocks(graph)[0]!
    const plan = planBlock(block, { scheme: parseScheme('w4a16'), let: false, values: valuesOf(graph) })
    const counts = new TokenCounts(findExperts(block))
    const { float } = statesOf(block)
    await runBlock(plan, floatVersion(readWeights(block)), { from: float, observers: counts.observers }, {})
    expect(counts.tokens.reduce((a, b) => a + b)).toBe(3 * T * K)
    expect(counts.tokens.slice(0, 3).every(tokens => tokens >= 16)).toBe(true)
    expect(counts.tokens[3]).toBeLessThan(16)
  })

  async function learned(lwc: boolean): Promise<FinishedBlock> {
    const graph = decoder()
    const blocks = findBlocks(graph)
    const rates = { epochs: 8, learningRate: 5e-2, schedule: 'constant' as const }
    const method = methodOf({ ...rates, lwc, let: false, session: {}, scheme: parseScheme('w3a16g32') })
    const plan = blockPlanner(method, { values: valuesOf(graph) })(blocks[0]!)
    const context = { method, blocks: 2 }
    const finished = lwc
      ? await learnBlock(plan, { ...context, states: statesOf(blocks[0]!) })
      : roundBlock(plan, context)
    exportBlocks(newModel(graph), [finished], { accuracyLevel: 0, format: 'integer' })
    expect(graph.nodes.filter(({ opType }) => opType === 'MatMulNBits')).toHaveLength(4 + 3 * E)
    expect(graph.nodes.some(({ name, opType }) => name === '/model/layers/0/gate/MatMul' && opType === 'MatMul')).toBe(
      true,
    )
    return finished
  }

  test('an expert that saw few tokens is rounded to nearest, the others are learned', async () => {
    const [after, before] = [await learned(true), await learned(false)]
    expect(after.report).toMatchObject({ kept: 'learned', fewTokens: { experts: [3], needed: 16 } })
    const { linears } = after.plan.block
    const same = linears.flatMap(({ name }, i) => {
      const [a, b] = [after, before].map(block => block.linears[i]!.packed as PackedWeight)
      return Buffer.compare(readBytes(a!.b), readBytes(b!.b)) === 0 ? [name] : []
    })
    expect(same.filter(name => name.includes('experts')).sort()).toEqual(expertNames(3).sort())
  })

  test('the note', () => {
    expect(fewTokensNote(3, { experts: [5, 7], needed: 32 })).toBe(
      'block 3: experts 5, 7 saw fewer than 32 tokens: rounded to nearest',
    )
    expect(fewTokensNote(0, { experts: [1], needed: 16 })).toBe(
      'block 0: expert 1 saw fewer than 16 tokens: rounded to nearest',
    )
  })
})

test('a model without a choice has no routers and no experts', () => {
  const d = new Decoder()
  const x = d.g.input('x', 'float32', [1, T, H])
  const y = d.g.add(x, d.attention(d.norm(x, 'norm'), 'layers.0'))
  const z = d.g.add(y, d.linear(d.linear(d.norm(y, 'norm2'), 'layers.0.up', I), 'layers.0.down', H))
  d.g.output(d.linear(z, 'lm_head', 40), 'logits')
  for (const node of d.g.graph.nodes) node.origin = node
  const [block] = findBlocks(d.g.graph)
  expect(block!.skipped).toEqual([])
  expect(findExperts(block!)).toEqual([])
})
