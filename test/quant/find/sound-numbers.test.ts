/** @file Models and parameters with NaN, infinite or absurd numbers: refused before or while quantizing, with the place. */

import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { readElements } from '../../../src/graph/tensor.ts'
import { saveModel } from '../../../src/graph/onnx-file/save.ts'
import { type ParameterFile, readParameterFile, writeParameterFile } from '../../helpers/parameter-files.ts'
import { quantizeModel } from '../../../src/quant/quantize-model.ts'
import { type QuantizeOptions } from '../../../src/quant/terms/options.ts'
import type { QuantizeReport } from '../../../src/quant/terms/report.ts'
import { parseScheme } from '../../../src/quant/terms/scheme.ts'
import { testFolder } from '../../helpers/test-folder.ts'
import { toyDecoder, type ToyGraph, toyTokens } from '../../helpers/toy-decoder.ts'
import { PLAIN } from '../../helpers/method.ts'

/** A toy with some numbers of its constants changed: name, index, value. */
function damaged(...changes: readonly (readonly [name: string, index: number, value: number])[]): ToyGraph {
  const toy = toyDecoder()
  for (const [name, index, value] of changes) {
    const { tensor } = toy.graph.initializers.find(constant => constant.name === name)!
    ;(readElements(tensor!) as Float32Array)[index] = value
  }
  return toy
}

async function quantize(toy: ToyGraph, given: Partial<QuantizeOptions> = {}): Promise<QuantizeReport> {
  const folder = testFolder()
  const [model, calib, output] = ['model.onnx', 'calib.jsonl', 'out'].map(name => join(folder, name)) as [
    string,
    string,
    string,
  ]
  await saveModel(toy.model, model)
  writeFileSync(calib, toyTokens(2, 12))
  try {
    return await quantizeModel({
      ...PLAIN,
      ...{ model, calib, output, scheme: parseScheme('w4a16g32'), lwc: true, epochs: 1, samples: 2, seqLen: 12 },
      ...{ seed: 0, learningRate: 1e-2, schedule: 'constant', accuracyLevel: 0, threads: 1, ...given },
    })
  } catch (error) {
    expect(existsSync(join(output, 'model.onnx'))).toBe(false)
    throw error
  }
}

const refused = (code: string, ...parts: string[]) =>
  expect.objectContaining({
    code,
    hint: expect.any(String),
    message: expect.stringMatching(new RegExp(parts.map(part => part.replace(/[.[\]()+/]/g, '\\$&')).join('.*'))),
  })

const GAIN = '/layers.1/post_norm.weight'
const rounding = { lwc: false } as const
/** A token that no sample has. */
const UNUSED = [...Array(96).keys()].find(id => !toyTokens(2, 12).match(/\d+/g)!.map(Number).includes(id))!

describe.each([{}, rounding])('with %o', options => {
  test.each([
    [NaN, 'NaN'],
    [-Infinity, '-Infinity'],
    [1e38, '1e+38'],
  ])('a gain that is %s is named', async (value, shown) => {
    await expect(quantize(damaged([GAIN, 5, value]), options)).rejects.toThrow(
      refused('E_UNSUPPORTED', `"${GAIN}" holds ${shown} at [5]`),
    )
  })

  test('all of them are told at once, the last norm among them', async () => {
    const toy = damaged([GAIN, 5, NaN], ['/norm.weight', 63, Infinity])
    await expect(quantize(toy, options)).rejects.toThrow(
      refused('E_UNSUPPORTED', `"${GAIN}" holds NaN at [5]`, '"/norm.weight" holds Infinity at [63]'),
    )
  })

  test.each([
    [NaN, 'NaN'],
    [1e38, '1e+38'],
  ])('a weight that is %s is named', async (value, shown) => {
    await expect(quantize(damaged(['/layers.1/mlp/up_proj.weight', 130, value]), options)).rejects.toThrow(
      refused('E_UNSUPPORTED', 'layers.1.mlp.up_proj', `${shown} at [1, 2]`),
    )
  })
})

test.each([
  [NaN, 'NaN'],
  [1e38, '1e+38'],
])('an embedding with %s is refused where learning meets its token', async (value, shown) => {
  const ids = JSON.parse(toyTokens(1, 12)) as number[]
  const toy = damaged(['embed.weight', 64 * ids[2]! + 7, value])
  await expect(quantize(toy)).rejects.toThrow(
    refused('E_UNSUPPORTED', `before the first block hold ${shown}`, `token `, `(id ${ids[2]})`, 'channel 7'),
  )
})

describe.each([{ lwc: true }, rounding])('lm_head and embedding in 8 bits, with %o', options => {
  const OUTER = { lmHead: 8, embedding: 8 } as const

  test.each([
    ['lm_head', '/lm_head.weight', 65, '[0, 65]'],
    ['embed', 'embed.weight', 64 * UNUSED + 7, `[${UNUSED}, 7]`],
  ])('%s with NaN is named, and the place', async (name, constant, index, place) => {
    await expect(quantize(damaged([constant, index, NaN]), { ...options, ...OUTER })).rejects.toThrow(
      refused('E_UNSUPPORTED', name, `holds NaN at ${place}`),
    )
  })
})

test('rows of the embedding that no token asks for do not matter', async () => {
  const { blocks } = await quantize(damaged(['embed.weight', 64 * UNUSED, NaN]))
  expect(blocks.map(({ roundedLoss }) => Number.isFinite(roundedLoss))).toEqual([true, true])
})

test('a block whose own outputs overflow is named', async () => {
  const toy = damaged()
  for (const name of ['/layers.0/attn/v_proj.weight', '/layers.0/attn/o_proj.weight']) {
    const { tensor } = toy.graph.initializers.find(constant => constant.name === name)!
    const numbers = readElements(tensor!) as Float32Array
    numbers.forEach((x, i) => (numbers[i] = x * 1e17))
  }
  await expect(quantize(toy)).rejects.toThrow(refused('E_UNSUPPORTED', 'after block 0 hold', 'sample 0'))
})

describe('learned parameters', () => {
  const learning = { scheme: parseScheme('w3a4'), let: true }
  let learned: ParameterFile | undefined

  /** Learns with transformations, changes numbers of the file, and uses it: name's end -> what is done to the numbers. */
  async function replay(changes: Readonly<Record<string, (data: Float32Array) => void>>): Promise<unknown> {
    const path = join(testFolder(), 'learned.safetensors')
    if (!learned) {
      await quantize(toyDecoder(), { ...learning, saveParams: path })
      learned = readParameterFile(path)
    }
    const file = learned
    const tensors = new Map(file.tensors)
    for (const [end, change] of Object.entries(changes)) {
      const [name, tensor] = [...tensors].find(([each]) => each.endsWith(end))!
      const data = tensor.data.slice()
      change(data)
      tensors.set(name, { ...tensor, data })
    }
    writeParameterFile(path, { ...file, tensors })
    return quantize(toyDecoder(), { ...learning, params: path })
  }
  const first = (value: number) => (data: Float32Array) => void (data[1] = value)

  test.each([
    [NaN, 'NaN'],
    [Infinity, 'Infinity'],
    [-1e30, '-1e+30'],
  ])('with %s are refused, naming tensor and place', async (value, shown) => {
    await expect(replay({ ':max': first(value) })).rejects.toThrow(
      refused('E_PARAMETERS', 'learned.safetensors: "blocks.0.', `:max" holds ${shown} at [0, 1]`),
    )
  })

  test('that make numbers nobody can store are refused, naming those', async () => {
    const changes = {
      'post_norm -> up_proj:scale': first(1e18),
      'up_proj -> down_proj:scale': (data: Float32Array) => void data.fill(0),
    }
    await expect(replay(changes)).rejects.toThrow(
      refused('E_PARAMETERS', 'block 0 do not fit', 'the scales of layers.0.mlp.up_proj would hold'),
    )
  })

  test('that are sound are used', async () => {
    await expect(replay({ ':max': first(3) })).resolves.toBeDefined()
  })
})
