/** @file Static activations from the command line to the file: forms, parameters that are saved and used again, resuming, refusals. */

import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Model, Node } from '../../src/graph/ir.ts'
import { modelBytes } from '../helpers/model-bytes.ts'
import { loadModel } from '../../src/graph/onnx-file/load.ts'
import { readNumbers } from '../../src/graph/tensor.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import type { QuantizeOptions } from '../../src/quant/terms/options.ts'
import type { QuantizeEvent, QuantizeReport } from '../../src/quant/terms/report.ts'
import { parseScheme, schemeName } from '../../src/quant/terms/scheme.ts'
import { logitsOf, relativeError } from '../helpers/compare-logits.ts'
import { checkEmitted } from '../helpers/emitted.ts'
import { readParameterFile } from '../helpers/parameter-files.ts'
import { runCli } from '../helpers/run-cli.ts'
import { tempDir } from '../helpers/temp-dir.ts'
import { PLAIN } from '../helpers/method.ts'

const LLAMA = resolve(import.meta.dirname, '../../fixtures/tiny-llama')
const VOCAB = { vocab: 300, tokens: 24 }
const folder = tempDir()
let count = 0
const fresh = (): string => join(folder, `${count++}.onnx`)

const OPTIONS: Omit<QuantizeOptions, 'output'> = {
  ...PLAIN,
  ...{ model: LLAMA, calib: join(LLAMA, 'calib.txt'), scheme: 'w8a8', staticActivations: true },
  ...{ samples: 3, seqLen: 32, epochs: 2, learningRate: 1e-2, threads: 1 },
}

const NOTHING = { lwc: false, let: false }

const nodesOf = ({ graph }: Model, kind: string): Node[] => graph.nodes.filter(({ opType }) => opType === kind)

describe('the command line', () => {
  test('makes 8-bit static activations in the QDQ form, learned', async () => {
    const path = fresh()
    const flags = ['--w8a8', '--static-activations', '--format', 'qdq', '--range', 'percentile']
    const training = ['--calib', OPTIONS.calib!, '--samples', '3', '--seq-len', '32', '--epochs', '1', '--json']
    const { stdout, stderr, exitCode } = await runCli('quantize', LLAMA, ...flags, ...training, '-o', path)
    expect(stderr).not.toContain('error')
    expect(exitCode).toBe(0)
    const report = JSON.parse(stdout) as QuantizeReport
    expect(report.scheme).toBe('w8a8-static')
    for (const { activations } of report.blocks) {
      expect(activations!.length).toBe(7)
      for (const { bits, min, max } of activations!) {
        expect(bits).toBe(8)
        expect(min).toBeLessThanOrEqual(0)
        expect(max).toBeGreaterThan(0)
      }
    }
    checkEmitted(path)
    // Of each block: inputs of four groups of linears, queries, keys and values.
    const model = loadModel(path)
    const quantize = nodesOf(model, 'QuantizeLinear')
    expect(quantize.length).toBe(3 * 7)
    for (const { inputs } of quantize)
      expect(inputs.map(value => value!.tensor?.dtype)).toEqual([undefined, 'float32', 'uint8'])
    const dequantized = new Set(nodesOf(model, 'DequantizeLinear').map(({ outputs }) => outputs[0]))
    // The last is lm_head's, which reads float activations.
    expect(dequantized.size).toBe(3 * 7 + 3 * 7 + 1)
    const products = nodesOf(model, 'MatMul').filter(({ inputs }) => dequantized.has(inputs[1]))
    expect(products.filter(({ inputs }) => dequantized.has(inputs[0])).length).toBe(3 * 7)
    expect(products.length).toBe(3 * 7 + 1)
    expect(relativeError(await logitsOf(join(LLAMA, 'model.onnx'), VOCAB), await logitsOf(path, VOCAB))).toBeLessThan(
      0.15,
    )
  })

  test.each([
    [
      ['--w8a16', '--static-activations', '--format', 'integer'],
      '--format integer multiplies codes of 8 bits, not of 16',
    ],
    [['--w8a6', '--static-activations'], '6-bit static activations cannot be made'],
    [['--w8a8', '--static-activations', '--symmetric-activations'], 'exclude each other'],
    [['--w8a8', '--range', 'mse'], '--range is for static activations'],
    [['--w4a16', '--learn-ranges'], '--learn-ranges is for quantized activations'],
    [['--w8a8', '--static-activations', '--range', 'all'], '--range is minmax, percentile or mse, not "all"'],
    [['--w8a8', '--format', 'qdq'], 'cannot hold activations that are quantized per token'],
  ])('refuses %j', async (flags, message) => {
    const { stderr, exitCode } = await runCli('quantize', LLAMA, ...flags, '-o', fresh())
    expect(stderr).toContain(message)
    expect(exitCode).toBe(2)
  })
})

describe('the file', () => {
  test.each([
    ['w8a8', 'integer'],
    ['w8a8', 'portable'],
    ['w8a8', 'qdq'],
    ['w4a8g32', 'qdq'],
    ['w8a16', 'qdq'],
  ] as const)('%s, %s: fused and as written it computes the same', async (scheme, format) => {
    const path = fresh()
    await quantizeModel({ ...OPTIONS, ...NOTHING, scheme, format, output: path })
    checkEmitted(path)
    const written = await logitsOf(path, VOCAB, { optimization: 'disabled' })
    for (const optimization of ['basic', 'extended', 'all'] as const)
      expect(relativeError(written, await logitsOf(path, VOCAB, { optimization }))).toBeLessThan(1e-4)
  })

  test('with 16 bits is closer to float than with 8, and has uint16 in opset 21', async () => {
    const [eight, sixteen] = [fresh(), fresh()]
    await quantizeModel({ ...OPTIONS, ...NOTHING, output: eight })
    await quantizeModel({ ...OPTIONS, ...NOTHING, scheme: 'w8a16', output: sixteen })
    const float = await logitsOf(join(LLAMA, 'model.onnx'), VOCAB)
    const [coarse, fine] = await Promise.all(
      [eight, sixteen].map(async path => relativeError(float, await logitsOf(path, VOCAB))),
    )
    expect(fine!).toBeLessThan(coarse! / 2)
    const model = loadModel(sixteen)
    expect(model.opsetImports.find(({ domain }) => domain === '')!.version).toBeGreaterThanOrEqual(21)
    for (const { inputs } of nodesOf(model, 'QuantizeLinear')) expect(inputs[2]!.tensor!.dtype).toBe('uint16')
  })
})

describe('parameters', () => {
  /** Bytes of the file that `options` gives, and of the one that its saved parameters give. */
  async function replayed(options: Partial<QuantizeOptions>) {
    const [first, second, params] = [fresh(), fresh(), `${fresh()}.safetensors`]
    const { blocks } = await quantizeModel({ ...OPTIONS, ...options, output: first, saveParams: params })
    await quantizeModel({ ...OPTIONS, ...options, output: second, params })
    return { kept: blocks.map(({ kept }) => kept), bytes: [first, second].map(modelBytes), params }
  }

  test('of a learned run give its bytes again', async () => {
    const { bytes, kept, params } = await replayed({ scheme: 'w3a8', samples: 2, learningRate: 5e-2 })
    expect(kept).toContain('learned')
    expect(bytes[0]!.equals(bytes[1]!)).toBe(true)
    const { metadata, tensors } = readParameterFile(params)
    expect(metadata).toMatchObject({ ranges: 'true', scheme: 'w3a8-static' })
    expect([...tensors.keys()].filter(name => name.includes(':range_')).length).toBe(3 * 14)
  })

  test('of a run that learned nothing give its bytes again: they are the observed ranges', async () => {
    const { bytes, kept, params } = await replayed(NOTHING)
    expect(kept).toEqual([undefined, undefined, undefined])
    expect(bytes[0]!.equals(bytes[1]!)).toBe(true)
    expect([...readParameterFile(params).tensors.keys()].every(name => name.includes(':range_'))).toBe(true)
  })

  test('without ranges are refused', async () => {
    const params = `${fresh()}.safetensors`
    await quantizeModel({ ...OPTIONS, staticActivations: false, output: fresh(), saveParams: params })
    await expect(quantizeModel({ ...OPTIONS, output: fresh(), params })).rejects.toMatchObject({ code: 'E_PARAMETERS' })
  })
})

test('a run that was broken off goes on to the same bytes', async () => {
  const options = { ...OPTIONS, let: false, samples: 2, epochs: 1 }
  const [whole, broken] = [fresh(), fresh()]
  await quantizeModel({ ...options, output: whole })
  const onEvent = (event: QuantizeEvent) => {
    if (event.type === 'blockDone' && event.report.index === 1) throw new Error('enough')
  }
  await expect(quantizeModel({ ...options, output: broken }, { onEvent })).rejects.toThrow('enough')
  const { notes } = await quantizeModel({ ...options, output: broken })
  expect(notes[0]).toContain('went on from an earlier run')
  expect(readFileSync(broken).equals(readFileSync(whole))).toBe(true)
})

test('ranges follow the calibration text: numbers beyond them are clipped', async () => {
  const path = fresh()
  await quantizeModel({ ...OPTIONS, ...NOTHING, samples: 1, seqLen: 4, output: path })
  const scales = nodesOf(loadModel(path), 'QuantizeLinear').map(({ inputs }) => readNumbers(inputs[1]!.tensor!)[0]!)
  const more = fresh()
  await quantizeModel({ ...OPTIONS, ...NOTHING, samples: 8, seqLen: 32, output: more })
  const wider = nodesOf(loadModel(more), 'QuantizeLinear').map(({ inputs }) => readNumbers(inputs[1]!.tensor!)[0]!)
  expect(wider.filter((scale, i) => scale > scales[i]!).length).toBeGreaterThan(scales.length / 2)
})

test('names say that activations are static', () => {
  const named = (text: string) => schemeName(parseScheme(text, { staticActivations: true }))
  expect([named('w8a8'), named('w4a8g32'), named('w8a16')]).toEqual(['w8a8-static', 'w4a8g32-static', 'w8a16-static'])
  expect(parseScheme('w8a16', { staticActivations: true }).activations).toEqual({ kind: 'static', bits: 16 })
  expect(parseScheme('w8a16').activations).toBeUndefined()
})
