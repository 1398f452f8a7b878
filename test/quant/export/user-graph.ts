/** @file Small models as users have them, of any opset and float type, written by hand; and activations quantized in plain TypeScript. */

import { join } from 'node:path'
import { type DType, dtypeNumber } from '../../../src/graph/dtype.ts'
import { type Attribute, type Dim, Graph, type Model, newModel, Node, Value } from '../../../src/graph/ir.ts'
import { saveModel } from '../../../src/graph/onnx-file/save.ts'
import { readElements, type Tensor, tensorOf } from '../../../src/graph/tensor.ts'
import { verify } from '../../../src/graph/onnx-file/verify.ts'
import type { ActivationQuantizer } from '../../../src/kernels/tokens.ts'
import { roundToFloat16, toFloat16Bits } from '../../../src/kernels/float16.ts'
import { openModel, type Tensors } from '../../../src/kernels/session.ts'
import { noise } from '../../kernels/weights.ts'

/** A float tensor in the type given. */
export function stored(dims: readonly number[], numbers: Float32Array, dtype: 'float32' | 'float16'): Tensor {
  return dtype === 'float32' ? tensorOf(dtype, dims, numbers) : tensorOf(dtype, dims, toFloat16Bits(numbers))
}

export interface UserGraphOptions {
  readonly opset?: number
  readonly dtype?: 'float32' | 'float16'
  /** True gives values their types, as in files that went through shape inference. */
  readonly typed?: boolean
}

/** A user's model under construction; inputs and outputs are float32, what lies between has type `dtype`. */
export class UserGraph {
  readonly model: Model
  readonly dtype: 'float32' | 'float16'
  private readonly typed: boolean

  constructor({ opset = 17, dtype = 'float32', typed = true }: UserGraphOptions = {}) {
    this.model = { ...newModel(new Graph('user'), opset), opsetImports: [{ domain: '', version: opset }] }
    this.dtype = dtype
    this.typed = typed
  }

  get graph(): Graph {
    return this.model.graph
  }

  op(opType: string, inputs: (Value | undefined)[], name: string, attributes: Record<string, number> = {}): Value {
    const output = new Value(`${name}_output_0`, this.typed ? this.dtype : undefined)
    const entries = Object.entries(attributes).map(([key, value]): [string, Attribute] => [key, { type: 'int', value }])
    this.graph.nodes.push(new Node(opType, inputs, [output], new Map(entries), '', name))
    return output
  }

  constant(name: string, dims: readonly number[], numbers: Float32Array): Value {
    const tensor = stored(dims, numbers, this.dtype)
    const value = new Value(name, tensor.dtype, dims, tensor)
    this.graph.initializers.push(value)
    return value
  }

  input(name: string, shape: readonly Dim[]): Value {
    const value = new Value(name, 'float32', shape)
    this.graph.inputs.push(value)
    return this.cast(value, `${name}_cast`, this.dtype)
  }

  output(value: Value, name: string): void {
    const shown = this.cast(value, `${name}_cast`, 'float32')
    const output = new Value(name, 'float32')
    this.graph.nodes.push(new Node('Identity', [shown], [output], new Map(), '', name))
    this.graph.outputs.push(output)
  }

  private cast(value: Value, name: string, dtype: DType): Value {
    if (this.dtype === 'float32') return value
    const output = this.op('Cast', [value], name, { to: dtypeNumber(dtype) })
    if (output.dtype) output.dtype = dtype
    return output
  }

  count(opType: string): number {
    return this.graph.nodes.filter(node => node.opType === opType).length
  }
}

let saved = 0

/** Saves the model into `folder` and runs it there. */
export async function runModel(model: Model, feeds: Tensors, folder: string): Promise<Record<string, Float32Array>> {
  verify(model.graph)
  const path = join(folder, `${saved++}.onnx`)
  await saveModel(model, path)
  const session = await openModel(path, { threads: 1 })
  try {
    const outputs = await session.run(feeds)
    return Object.fromEntries(
      Object.entries(outputs).map(([name, tensor]) => [name, readElements(tensor) as Float32Array]),
    )
  } finally {
    await session.release()
  }
}

/** Activations off center, one row of zeros, one on one side of zero; as float16 holds them. */
export function activations(rows: number, columns: number, seed: number): Float32Array {
  return noise(rows * columns, seed).map((x, i) => {
    const row = Math.floor(i / columns)
    if (row === 1) return 0
    return roundToFloat16(row === 2 ? x + 3 : x * (row + 1) + 0.3)
  })
}

const roundHalfEven = (x: number): number => x + 1.5 * 2 ** 52 - 1.5 * 2 ** 52
const clip = (x: number, low: number, high: number): number => Math.min(Math.max(x, low), high)

/** Rows of `group` elements quantized and back, in float32. */
export function fakeQuantizeRows(
  x: Float32Array,
  group: number,
  { bits, symmetric }: ActivationQuantizer,
): Float32Array {
  const { fround } = Math
  const y = new Float32Array(x.length)
  for (let first = 0; first < x.length; first += group) {
    const row = x.subarray(first, first + group)
    const max = Math.max(...row, 0)
    const min = Math.min(...row, 0)
    const width = symmetric ? Math.max(max, -min) : fround(max - min)
    const step = fround(width / (symmetric ? 2 ** (bits - 1) - 1 : 2 ** bits - 1))
    const scale = Math.max(step, 2 ** -126)
    const zero = symmetric ? 2 ** (bits - 1) : roundHalfEven(fround(-min / scale))
    row.forEach((value, i) => {
      const code = clip(roundHalfEven(fround(value / scale)) + zero, 0, 2 ** bits - 1)
      y[first + i] = (code - zero) * scale
    })
  }
  return y
}

/** ||got - expected|| / ||expected|| */
export function relativeError(got: Float32Array, expected: ArrayLike<number>): number {
  let error = 0
  let size = 0
  got.forEach((value, i) => {
    error += (value - expected[i]!) ** 2
    size += expected[i]! ** 2
  })
  return got.length === expected.length ? Math.sqrt(error / size) : Infinity
}

/** x [rows, K] times w [K, N] plus bias, summed in float64. */
export function product(x: Float32Array, w: Float32Array, K: number, N: number, bias?: Float32Array): Float64Array {
  const y = new Float64Array((x.length / K) * N)
  for (let m = 0; m < x.length / K; m++) {
    for (let n = 0; n < N; n++) {
      let sum = bias?.[n] ?? 0
      for (let k = 0; k < K; k++) sum += x[m * K + k]! * w[k * N + n]!
      y[m * N + n] = sum
    }
  }
  return y
}
