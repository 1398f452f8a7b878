/**
 * @file Quantizing activations in the user's graph: per row of the last axis, at run time. The operators are those training used,
 * in the same order (kernels/tokens.ts), so that what is trained is what ships.
 */

import { floatTypeOf, type GraphWriter, type Stem } from '../../graph/graph-writer.ts'
import type { Graph, Value } from '../../graph/ir.ts'
import { tensorOf } from '../../graph/tensor.ts'
import { FLOAT32_SCALES, qMax, stepCount, symmetricZeroPoint } from '../../kernels/qparams.ts'
import type { ActivationQuantizer } from '../../kernels/tokens.ts'

/** x [.., C] float32 as codes: x ~ (codes - zeroPoint) * scale. All float32. */
export interface QuantizedRows {
  /** Whole numbers from 0 to 2^bits - 1, [.., C]. */
  readonly codes: Value
  /** [.., 1]. */
  readonly scale: Value
  /** Whole numbers, [.., 1]; the scalar 2^(bits-1) when symmetric. */
  readonly zeroPoint: Value
}

type Extreme = 'ReduceMax' | 'ReduceMin'

const ROW_SUFFIX = { ReduceMax: 'row_max', ReduceMin: 'row_min' }

/**
 * The extremes of the rows of x [.., n, K], where n may be 0 when the model runs: onnxruntime 1.30 reduces [0, K] along K to [0, K].
 * With a row of zeros behind them rows are there, and it is cut off again. @param rank of x; dimensions before the last two are 1.
 */
function writeExtremesOfFew(
  writer: GraphWriter,
  stem: Stem,
  x: Value,
  K: number,
  rank: number,
): (op: Extreme) => Value {
  const zeros = writer.once(`zero_row_${K}_${rank}`, name =>
    writer.constant(name, tensorOf('float32', [...Array<number>(rank - 1).fill(1), K], new Float32Array(K))),
  )
  const padded = writer.op(stem, 'padded', 'Concat', [x, zeros], { attributes: { axis: -2 } })
  return op => {
    const reduced = writer.reduceLast(stem, `padded_${ROW_SUFFIX[op]}`, op, padded)
    return writer.op(stem, ROW_SUFFIX[op], 'Slice', [reduced, writer.ints(0), writer.ints(-1), writer.ints(-2)])
  }
}

/** Values with one row per element that a NonZero found, of which there may be none; up to where they are put back by a Scatter. */
function rowsFound(graph: Graph): ReadonlySet<Value> {
  const found = new Set<Value>()
  for (const { kind, inputs, outputs } of graph.nodes) {
    const isFound = kind === 'NonZero' || inputs.some(value => value && found.has(value))
    if (isFound && !kind.startsWith('Scatter')) for (const output of outputs) if (output) found.add(output)
  }
  return found
}

/**
 * With max >= 0 and min <= 0 of each row:
 * asymmetric scale = (max - min) / (2^bits - 1), zeroPoint = round(-min / scale);
 * symmetric  scale = max(max, -min) / (2^(bits-1) - 1), zeroPoint = 2^(bits-1);
 * codes = clip(round(x / scale) + zeroPoint, 0, 2^bits - 1). Scales are normal float32 numbers.
 */
export function writeQuantizedRows(
  writer: GraphWriter,
  stem: Stem,
  x: Value,
  quantizer: ActivationQuantizer,
  extreme: (op: Extreme) => Value = op => writer.reduceLast(stem, ROW_SUFFIX[op], op, x),
): QuantizedRows {
  const { bits, symmetric } = quantizer
  const op = (suffix: string, opType: string, ...inputs: Value[]) => writer.op(stem, suffix, opType, inputs)
  const number = (value: number) => writer.scalar(value)
  const max = op('max', 'Max', extreme('ReduceMax'), number(0))
  const min = op('min', 'Min', extreme('ReduceMin'), number(0))
  const negated = op('negated_min', 'Neg', min)
  const width = symmetric ? op('width', 'Max', max, negated) : op('width', 'Sub', max, min)
  const step = op('step', 'Div', width, number(stepCount(quantizer)))
  const scale = op('scale', 'Clip', step, ...FLOAT32_SCALES.map(number))
  const zeroPoint = symmetric
    ? number(symmetricZeroPoint(bits))
    : op('zero_point', 'Round', op('zero_steps', 'Div', negated, scale))
  const rounded = op('rounded', 'Round', op('steps', 'Div', x, scale))
  const moved = op('moved', 'Add', rounded, zeroPoint)
  return { codes: op('codes', 'Clip', moved, number(0), number(qMax(bits))), scale, zeroPoint }
}

/** What the codes stand for, float32 [.., C]. */
export function writeDequantizedRows(writer: GraphWriter, stem: Stem, rows: QuantizedRows): Value {
  const centered = writer.op(stem, 'centered', 'Sub', [rows.codes, rows.zeroPoint])
  return writer.op(stem, 'dequantized', 'Mul', [centered, rows.scale])
}

/** What the file need not say of the values that linears read. */
export interface RowShape {
  readonly channels: number
  /** Number of dimensions. */
  readonly rank: number
}

/** Quantizers of one model's activations: linears that read the same value with the same quantizer share its numbers. */
export class SharedActivations {
  private readonly writer: GraphWriter
  private readonly found: ReadonlySet<Value>
  private readonly values = new Map<Value, Map<string, Value>>()
  private readonly quantized = new Map<Value, Map<string, QuantizedRows>>()

  /** @param graph whose values are quantized. */
  constructor(writer: GraphWriter, graph: Graph) {
    this.writer = writer
    this.found = rowsFound(graph)
  }

  /** x itself, in float32. */
  float32(x: Value): Value {
    return this.once(this.values, x, 'float32', stem =>
      x.dtype === undefined && floatTypeOf(x) === 'float32' ? x : this.writer.cast(stem, x, 'float32'),
    )
  }

  /** x as it is after quantizing, in float32. */
  dequantized(x: Value, quantizer: ActivationQuantizer, shape: RowShape): Value {
    return this.once(this.values, x, `dequantized ${keyOf(quantizer)}`, stem =>
      writeDequantizedRows(this.writer, stem, this.rows(x, quantizer, shape)),
    )
  }

  /** The codes as uint8, and what `2^(bits-1)` has to be moved by to be the zero point: none when symmetric. */
  integer(
    x: Value,
    quantizer: ActivationQuantizer,
    shape: RowShape,
  ): { readonly codes: Value; readonly scale: Value; readonly offset: Value | undefined } {
    const { codes, scale, zeroPoint } = this.rows(x, quantizer, shape)
    const { writer } = this
    const key = keyOf(quantizer)
    const middle = writer.scalar(2 ** (quantizer.bits - 1))
    return {
      codes: this.once(this.values, x, `uint8 ${key}`, stem => writer.cast(stem, codes, 'uint8')),
      scale,
      offset: quantizer.symmetric
        ? undefined
        : this.once(this.values, x, `offset ${key}`, stem => writer.op(stem, 'offset', 'Sub', [zeroPoint, middle])),
    }
  }

  private rows(x: Value, quantizer: ActivationQuantizer, { channels, rank }: RowShape): QuantizedRows {
    return this.once(this.quantized, x, keyOf(quantizer), stem => {
      const float = this.float32(x)
      const extremes = this.found.has(x) ? writeExtremesOfFew(this.writer, stem, float, channels, rank) : undefined
      return writeQuantizedRows(this.writer, stem, float, quantizer, extremes)
    })
  }

  private once<T>(known: Map<Value, Map<string, T>>, x: Value, key: string, make: (stem: Stem) => T): T {
    if (!known.has(x)) known.set(x, new Map())
    const ofValue = known.get(x)!
    if (!ofValue.has(key)) ofValue.set(key, make({ values: x.name, nodes: x.name }))
    return ofValue.get(key)!
  }
}

const keyOf = ({ bits, symmetric }: ActivationQuantizer): string => `${bits} ${symmetric}`
