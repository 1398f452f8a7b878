/**
 * @file Checks of a program against the kernels of onnxruntime's providers (test/quant/learn/device-kernels.json), and for inputs that
 * onnxruntime reads on the host.
 */

import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import type { DType } from '../../src/graph/dtype.ts'
import type { Graph, Node, Value } from '../../src/graph/ir.ts'

export const PROVIDERS = ['cpu', 'cuda', 'webgpu'] as const

export type Provider = (typeof PROVIDERS)[number]

/** Kernels of one operator. A kernel lists the types of each of the operator's type names, as words. */
type Row = {
  readonly since: number
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  /** The last input repeats. */
  readonly variadic?: boolean
} & Readonly<Partial<Record<Provider, readonly Readonly<Record<string, string>>[]>>>

interface Table {
  readonly opset: number
  readonly operators: Readonly<Record<string, Row>>
}

export const KERNELS: Table = JSON.parse(
  readFileSync(resolve(import.meta.dirname, '../quant/learn/device-kernels.json'), 'utf8'),
) as Table

/** Nodes of a graph and of the graphs inside it. */
export function allNodes(graph: Graph): Node[] {
  return graph.nodes.flatMap(node => [node, ...node.subgraphs().flatMap(allNodes)])
}

const typesOf = (values: readonly (Value | undefined)[]) => values.map(value => value?.dtype)

/** Type names and the types the node has for them. */
function boundTypes(node: Node, { inputs, outputs, variadic }: Row): [string, DType | undefined][] {
  const named = (types: readonly (DType | undefined)[], names: readonly string[], repeats: boolean) =>
    types.flatMap((type, i): [string, DType | undefined][] => {
      const name = names[i] ?? (repeats ? names.at(-1) : undefined)
      return name === undefined || type === undefined ? [] : [[name, type]]
    })
  return [
    ...named(typesOf(node.inputs), inputs, variadic ?? false),
    ...named(typesOf(node.outputs), outputs, outputs.length === 1),
  ]
}

/** "Cast(int64) -> (float32)" */
function described(node: Node): string {
  const list = (values: readonly (Value | undefined)[]) => values.map(value => value?.dtype ?? '-').join(', ')
  return `${node.kind}(${list(node.inputs)}) -> (${list(node.outputs)})`
}

/** Each different node of the program that the provider has no kernel for, in words. A type that is not known counts as missing. */
export function missingKernels(program: Graph, provider: Provider): string[] {
  const missing = allNodes(program).filter(node => {
    const row = KERNELS.operators[node.kind]
    if (!row?.[provider]) return true
    // Outputs of a Loop have the types of its state, which are its inputs.
    const outputs = node.opType === 'Loop' ? [] : node.outputs
    if (outputs.some(output => output && output.dtype === undefined)) return true
    const types = boundTypes(node, row)
    return !row[provider].some(kernel =>
      types.every(([name, type]) => kernel[name] === undefined || kernel[name].split(' ').includes(type!)),
    )
  })
  return [...new Set(missing.map(described))].sort()
}

/**
 * Inputs that onnxruntime's CUDA and WebGPU kernels read on the host (InputMemoryType OrtMemTypeCPUInput in their sources): shapes, axes,
 * bounds, counts. The bounds of Clip are not among them.
 */
const HOST_INPUTS: Readonly<Record<string, readonly number[]>> = {
  ConstantOfShape: [0],
  CumSum: [1],
  Expand: [1],
  If: [0],
  Loop: [0, 1],
  OneHot: [1],
  Pad: [1, 2, 3],
  Range: [0, 1, 2],
  Reshape: [1],
  Slice: [1, 2, 3, 4],
  Split: [1],
  Squeeze: [1],
  Tile: [1],
  TopK: [1],
  Trilu: [1],
  Unsqueeze: [1],
  ...Object.fromEntries(
    ['L1', 'L2', 'Max', 'Mean', 'Min', 'Prod', 'Sum', 'SumSquare'].map(name => [`Reduce${name}`, [1]]),
  ),
}

/** Inputs that the host reads and that are neither constant nor an input of the run, as "Op input i (name)": each waits for the device. */
export function computedHostInputs(program: Graph): string[] {
  const given = new Set(program.inputs)
  return allNodes(program).flatMap(node =>
    (HOST_INPUTS[node.kind] ?? []).flatMap(i => {
      const input = node.inputs[i]
      return !input || input.tensor || given.has(input) ? [] : [`${node.kind} input ${i} (${input.name})`]
    }),
  )
}

/**
 * Nodes that run on the CPU when the rest of a program is on WebGPU. None has more than a few bytes: the loop itself, its condition and
 * its counter.
 */
const CPU_BESIDE_WEBGPU: readonly RegExp[] = [
  /^Loop\(/,
  /^Identity\(bool\) -> \(bool\)$/,
  /^Cast\(int64\) -> \(float32\)$/,
]

/** Nodes that a provider lacks, and inputs that wait, in words; empty when the program suits them all. */
export function problems(program: Graph): string[] {
  return PROVIDERS.flatMap(provider =>
    missingKernels(program, provider)
      .filter(node => provider !== 'webgpu' || !CPU_BESIDE_WEBGPU.some(allowed => allowed.test(node)))
      .map(node => `${provider}: ${node}`),
  ).concat(computedHostInputs(program))
}
