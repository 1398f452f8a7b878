/** @file Learned gains of norms: found behind norms only, trained as they ship, and replayed from a file of parameters. */

import { mkdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { readElements } from '../../src/graph/tensor.ts'
import { loadModel } from '../../src/graph/onnx-file/load.ts'
import { analyze } from '../../src/quant/find/analyze.ts'
import { blockPlanner } from '../../src/quant/plan/block-planner.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { methodOf, PLAIN } from '../helpers/method.ts'
import { shipped } from '../helpers/shipped.ts'
import { tempDir } from '../helpers/temp-dir.ts'

const MODEL = resolve(import.meta.dirname, '../../fixtures/tiny-llama')
const folder = tempDir()
const METHOD = {
  lwc: true,
  learnGains: true,
  epochs: 3,
  learningRate: 5e-2,
  schedule: 'constant' as const,
  session: {},
}

const nameOf = ({ node, input }: { readonly node: { readonly inputs: readonly unknown[] }; readonly input: number }) =>
  (node.inputs[input] as { readonly name: string }).name

test('each norm of a block has one gain, which transformations may change too', async () => {
  const analysis = await analyze(MODEL, 8)
  const planOf = (given: object) =>
    blockPlanner(methodOf({ scheme: parseScheme('w4a16'), ...given }), analysis)(analysis.blocks[1]!)
  const alone = planOf({ learnGains: true, let: false })
  expect(alone.gains.map(({ readers }) => readers.map(({ name }) => name.split('.').at(-1)))).toEqual([
    ['q_proj', 'k_proj', 'v_proj'],
    ['gate_proj', 'up_proj'],
  ])
  expect(alone.mappings).toEqual([])
  expect(alone.changedSites.map(({ site }) => nameOf(site))).toEqual(alone.gains.map(({ site }) => nameOf(site)))
  const both = planOf({ learnGains: true, let: 'norm' })
  expect(both.changedSites).toHaveLength(2)
  expect(planOf({ let: false }).gains).toEqual([])
  expect(planOf({ learnGains: true, let: false, ignore: ['layers.1'] }).gains).toEqual([])
})

test.each(['w2a16g16', 'w4a16'])('%s: what is trained is what ships', async text => {
  const work = join(folder, text)
  mkdirSync(work)
  const { finished, errors } = await shipped(
    MODEL,
    work,
    { ...METHOD, scheme: parseScheme(text) },
    {},
    { tokens: 32, vocabulary: 300 },
  )
  for (const { learned } of finished)
    expect(learned!.vector.parameters.filter(({ name }) => name.endsWith(':gain'))).toHaveLength(2)
  errors.forEach((error, i) => expect(error, `block ${i}`).toBeLessThan(1e-5))
})

test('the file holds other gains, and its parameters give them again', async () => {
  const calib = join(MODEL, 'calib.txt')
  const params = join(folder, 'learned.safetensors')
  const run = {
    ...PLAIN,
    model: MODEL,
    scheme: 'w2a16g16',
    learnGains: true,
    calib,
    samples: 4,
    seqLen: 32,
    epochs: 2,
    threads: 1,
  } as const
  const { output, blocks } = await quantizeModel({ ...run, output: join(folder, 'learned.onnx'), saveParams: params })
  const { output: again } = await quantizeModel({ ...run, output: join(folder, 'again.onnx'), params })
  // In the order of the nodes; the last gain is that behind the blocks.
  const gainsOf = (path: string) =>
    loadModel(path).graph.nodes.flatMap(({ inputs }) =>
      inputs.flatMap(value =>
        value?.tensor?.dims.join() === '64' ? [[...(readElements(value.tensor) as Float32Array)]] : [],
      ),
    )
  const [before, learned, replayed] = [MODEL, output, again].map(gainsOf)
  const stay = blocks.flatMap(({ kept }) => [kept !== 'learned', kept !== 'learned'])
  expect(stay).toContain(false)
  expect(learned!.map((gain, i) => gain.join() === before![i]!.join())).toEqual([...stay, true])
  expect(replayed).toEqual(learned)
})
