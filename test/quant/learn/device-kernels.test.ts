/**
 * @file Every program has kernels on every provider for its operators and types, and nothing that the host must wait for. The table of
 * kernels is made by tools/device_kernels.py.
 */

import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { DType } from '../../../src/graph/dtype.ts'
import { type Graph, Node, PROGRAM_OPSET, Value } from '../../../src/graph/ir.ts'
import { saveModel } from '../../../src/graph/onnx-file/save.ts'
import { analyze } from '../../../src/quant/find/analyze.ts'
import type { Analysis } from '../../../src/quant/find/analysis.ts'
import { computedHostInputs, KERNELS, missingKernels, problems } from '../../helpers/device-kernels.ts'
import { blockPrograms, METHODS, outerPrograms } from '../../helpers/every-program.ts'
import { tempDir } from '../../helpers/temp-dir.ts'
import { TOY, toyDecoder, type ToyOptions } from '../../helpers/toy-decoder.ts'

const folder = tempDir()

async function analyzed(name: string, options: ToyOptions): Promise<Analysis> {
  const path = join(folder, `${name}.onnx`)
  await saveModel(toyDecoder(options).model, path)
  return analyze(path, 8)
}

/** GPT-2's layer: LayerNormalization with bias, biases on the products, Gelu by tanh. */
const layerNormLayer: ToyOptions['layer'] = (toy, x, scope) => {
  const { hidden, ffn } = TOY
  const norm = (name: string, value: typeof x) =>
    toy.op(`${scope}/${name}`, 'LayerNormalization', [
      value,
      toy.gain(`${scope}.${name}`),
      toy.weight(`${scope}.${name}.b`, [hidden]),
    ])
  const biased = (name: string, value: typeof x, rows: number, columns: number) =>
    toy.op(`${scope}/${name}`, 'Add', [
      toy.linear(`${scope}/${name}`, value, rows, columns),
      toy.weight(`${scope}.${name}.bias`, [columns]),
    ])
  const middle = toy.op(scope, 'Add', [x, toy.attention(`${scope}/attn`, norm('ln_1', x))])
  const up = toy.op(`${scope}/act`, 'com.microsoft.FastGelu', [biased('up_proj', norm('ln_2', middle), hidden, ffn)])
  return toy.op(scope, 'Add', [middle, biased('down_proj', up, ffn, hidden)])
}

const ANALYSES: readonly [string, Analysis][] = [
  ['Llama (fixture)', await analyze(resolve(import.meta.dirname, '../../../fixtures/tiny-llama'), 8)],
  ['decoder with Relu', await analyzed('relu', {})],
  ['decoder with LayerNormalization, biases and Gelu', await analyzed('gelu', { layer: layerNormLayer! })],
]

const CASES = ANALYSES.flatMap(([architecture, analysis]) =>
  Object.entries(METHODS).map(([name, given]) => ({ architecture, name, analysis, given })),
)

const OUTER = [2, 4, 8].flatMap(outerPrograms)

test('the table is of the opset that programs have', () => {
  expect(KERNELS.opset).toBe(PROGRAM_OPSET)
})

test.each(CASES)('$architecture, $name: all programs', ({ analysis, given }) => {
  const programs = blockPrograms(analysis, given)
  expect(programs.length).toBeGreaterThan(5)
  for (const [name, program] of programs) expect(problems(program), name).toEqual([])
})

test.each(OUTER)('lm_head and embeddings: %s', (_name, program) => {
  expect(problems(program)).toEqual([])
})

describe('the checks find', () => {
  /** A training program with one more node in the body of its Loop, which computes a float32 from the step's number. */
  function broken(opType: string, types: readonly [DType, DType], inputs: readonly Value[] = [], domain = ''): Graph {
    const [, program] = blockPrograms(ANALYSES[1]![1], METHODS['W4A16 g32']!)[0]!
    const [body] = program.nodes.flatMap(node => node.subgraphs())
    const output = new Value('more', types[1], [])
    body!.nodes.push(new Node(opType, [new Value('given', types[0], []), ...inputs], [output], new Map(), domain))
    return program
  }

  test('a type that CUDA has no kernel for', () => {
    const program = broken('Cast', ['float32', 'int4'])
    expect(missingKernels(program, 'cpu')).toEqual([])
    expect(missingKernels(program, 'cuda')).toEqual(['Cast(float32) -> (int4)'])
  })

  test('operators that CUDA, or WebGPU, has no kernel for', () => {
    expect(problems(broken('Mean', ['float32', 'float32']))).toEqual([
      'cuda: Mean(float32) -> (float32)',
      'webgpu: Mean(float32) -> (float32)',
    ])
    expect(problems(broken('Round', ['float32', 'float32']))).toEqual(['webgpu: Round(float32) -> (float32)'])
    expect(problems(broken('Softmax', ['float64', 'float64']))).toEqual(['webgpu: Softmax(float64) -> (float64)'])
  })

  test('an operator nobody has heard of, and a type nobody knows', () => {
    expect(missingKernels(broken('Mystery', ['float32', 'float32'], [], 'com.example'), 'cpu')).toEqual([
      'com.example.Mystery(float32) -> (float32)',
    ])
    expect(missingKernels(broken('Neg', ['float32', undefined as unknown as DType]), 'cpu')).toEqual([
      'Neg(float32) -> (-)',
    ])
  })

  test('a shape that is computed in the step', () => {
    const program = broken('Expand', ['float32', 'float32'], [new Value('computed', 'int64', [1])])
    expect(computedHostInputs(program)).toEqual(['Expand input 1 (computed)'])
  })
})
