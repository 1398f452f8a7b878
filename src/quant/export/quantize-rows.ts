/**
 * @file Quantizing activations in the user's graph: per row of the last axis, at run time, or over a fixed range (quantize-linear.ts).
 * The operators are those training used, in the same order (kernels/tokens.ts), so that what is trained is what ships.
 */

import { QuantError } from '../../errors.ts'
import type { Builder } from '../../graph/builder.ts'
import { floatTypeOf } from '../../graph/float-type.ts'
import type { GraphWriter } from '../../graph/graph-writer.ts'
import type { Graph, Value } from '../../graph/ir.ts'
import { floatTensor, tensorOf } from '../../graph/tensor.ts'
import { symmetricZeroPoint } from '../../kernels/qparams.ts'
import { type EmittedCodes, emitProduct, plainCodes } from '../../kernels/steps.ts'
import type { FixedQuantizer, WrittenQuantizer } from '../../kernels/static-range.ts'
import { type ClippedQuantizer, emitClippedRange, emitTokenCodes } from '../../kernels/tokens.ts'
import { emitKroneckerProduct, type Factors } from '../../kernels/kronecker.ts'
import type { Format } from '../terms/options.ts'
import { writeCodes, type WrittenCodes, writeRange } from './quantize-linear.ts'

/** BitShift, Round, and Clip and Round on any shape. */
const MIN_OPSET = 11

/** @throws E_UNSUPPORTED when the model's opset lacks the operators that `what` are quantized with. */
export function requireOpset({ opset }: GraphWriter, what = 'quantized activations'): void {
  if (opset >= MIN_OPSET) return
  throw new QuantError(
    'E_UNSUPPORTED',
    `the model is written in opset ${opset}: ${what} need ${MIN_OPSET}`,
    'Export it again with a newer opset, or convert it with onnx.version_converter.',
  )
}

type Extreme = 'ReduceMax' | 'ReduceMin'

const ROW_ROLE = { ReduceMax: 'row_max', ReduceMin: 'row_min' }

/**
 * The extremes of the rows of x [.., n, K], where n may be 0 when the model runs: onnxruntime 1.30 reduces [0, K] along K to [0, K].
 * With a row of zeros behind them rows are there, and it is cut off again. @param rank of x; dimensions before the last two are 1.
 */
function writeExtremesOfFew(g: Builder, x: Value, K: number, rank: number): (op: Extreme) => Value {
  const zeros = g.shared(`zero_row_${K}_${rank}`, 'zero_row', () =>
    tensorOf('float32', [...Array<number>(rank - 1).fill(1), K], new Float32Array(K)),
  )
  const padded = g.op('Concat', [x, zeros], { axis: -2 }, { role: 'padded' })
  return op => {
    const reduced = g.reduceLast(op, padded, { role: `padded_${ROW_ROLE[op]}` })
    return g.op('Slice', [reduced, g.ints([0]), g.ints([-1]), g.ints([-2])], {}, { role: ROW_ROLE[op] })
  }
}

/** Values with one row per element that a NonZero found, up to the Scatter that puts them back. There may be no such rows. */
function rowsFound(graph: Graph): Set<Value> {
  const found = new Set<Value>()
  for (const { kind, inputs, outputs } of graph.nodes) {
    const isFound = kind === 'NonZero' || inputs.some(value => value && found.has(value))
    if (isFound && !kind.startsWith('Scatter')) for (const output of outputs) if (output) found.add(output)
  }
  return found
}

/** Codes of x [.., C] float32, each row over its own range; the numbers back by `emitProduct`. */
export function writeQuantizedRows(
  g: Builder,
  x: Value,
  quantizer: ClippedQuantizer,
  extreme: (op: Extreme) => Value = op => g.reduceLast(op, x, { role: ROW_ROLE[op] }),
): EmittedCodes {
  const hi = g.op('Max', [extreme('ReduceMax'), g.scalar(0)], {}, { role: 'max' })
  const lo = g.op('Min', [extreme('ReduceMin'), g.scalar(0)], {}, { role: 'min' })
  const { ratios } = quantizer
  const shares = ratios && { min: g.scalar(ratios.min), max: g.scalar(ratios.max) }
  return emitTokenCodes(g, x, emitClippedRange(g, { lo, hi }, shares), quantizer, 'operator')
}

/** Matrix that a value is multiplied by before it is quantized (kernels/kronecker.ts). */
export interface WrittenMatrix {
  /** Tells it from all others in the file. */
  readonly name: string
  /** [n1, n1], transposed. */
  readonly left: Float32Array
  /** [n2, n2] */
  readonly right: Float32Array
  readonly factors: Factors
}

/** Shape of a value that a linear reads; the file may leave it out. */
export interface RowShape {
  readonly channels: number
  /** Number of dimensions. */
  readonly rank: number
}

/** Quantized activations of one graph. Linears that read the same value with the same quantizer share the result. */
export class SharedActivations {
  private readonly writer: GraphWriter
  private readonly format: Format
  private readonly found: Set<Value>
  private readonly values = new Map<Value, Map<string, Value>>()
  private readonly quantized = new Map<Value, Map<string, EmittedCodes>>()
  private readonly codes = new Map<Value, Map<string, WrittenCodes>>()

  /** @param graph the graph or body whose values are quantized. */
  constructor(writer: GraphWriter, graph: Graph, format: Format) {
    this.writer = writer
    this.format = format
    this.found = rowsFound(graph)
  }

  /** x in float32. */
  float32(x: Value): Value {
    return this.once(this.values, x, 'float32', g =>
      x.dtype === undefined && floatTypeOf(x) === 'float32' ? x : g.typed(x, 'float32'),
    )
  }

  /** x quantized and dequantized, in float32. */
  dequantized(x: Value, quantizer: WrittenQuantizer, shape: RowShape): Value {
    return this.once(this.values, x, `dequantized ${keyOf(quantizer)}`, g =>
      quantizer.kind === 'static'
        ? writeRange(g, this.float32(x), quantizer, this.format)
        : emitProduct(g, this.rows(x, quantizer, shape)),
    )
  }

  /** Codes of x over its fixed range. */
  fixed(x: Value, quantizer: FixedQuantizer): WrittenCodes {
    return this.once(this.codes, x, keyOf(quantizer), g => writeCodes(g, this.float32(x), quantizer))
  }

  /** Codes as uint8, scale, and offset = zeroPoint - 2^(bits-1); no offset when symmetric. */
  integer(
    x: Value,
    quantizer: ClippedQuantizer,
    shape: RowShape,
  ): { readonly codes: Value; readonly scale: Value; readonly offset: Value | undefined } {
    const rows = this.rows(x, quantizer, shape)
    const { scale, zeroPoint } = rows
    const key = keyOf(quantizer)
    return {
      codes: this.once(this.values, x, `uint8 ${key}`, g => g.cast(plainCodes(g, rows), 'uint8')),
      scale,
      offset:
        quantizer.symmetric || typeof zeroPoint === 'number'
          ? undefined
          : this.once(this.values, x, `offset ${key}`, g => {
              const middle = g.scalar(symmetricZeroPoint(quantizer.bits))
              return g.op('Sub', [zeroPoint, middle], {}, { role: 'offset' })
            }),
    }
  }

  /** x times a matrix, in float32. */
  transformed(x: Value, { name, left, right, factors }: WrittenMatrix, { rank }: RowShape): Value {
    const [n1, n2] = factors
    return this.once(this.values, x, `times ${name}`, g => {
      const matrices = {
        left: g.initializer('left', floatTensor([n1, n1], left)),
        right: g.initializer('right', floatTensor([n2, n2], right)),
      }
      const result = emitKroneckerProduct(g, this.float32(x), matrices, factors, rank)
      if (this.found.has(x)) this.found.add(result)
      return result
    })
  }

  private rows(x: Value, quantizer: ClippedQuantizer, { channels, rank }: RowShape): EmittedCodes {
    return this.once(this.quantized, x, keyOf(quantizer), g => {
      const float = this.float32(x)
      const extremes = this.found.has(x) ? writeExtremesOfFew(g, float, channels, rank) : undefined
      return writeQuantizedRows(g, float, quantizer, extremes)
    })
  }

  private once<T>(known: Map<Value, Map<string, T>>, x: Value, key: string, make: (g: Builder) => T): T {
    if (!known.has(x)) known.set(x, new Map())
    const ofValue = known.get(x)!
    if (!ofValue.has(key)) ofValue.set(key, make(this.writer.at({ values: x.name, nodes: x.name })))
    return ofValue.get(key)!
  }
}

const keyOf = (quantizer: WrittenQuantizer): string => JSON.stringify(quantizer)
