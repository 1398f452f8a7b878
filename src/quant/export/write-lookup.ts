/**
 * @file Two forms of a lookup in a quantized table, over the same stored bytes. Each function writes the rows that token ids ask for.
 * Layouts: kernels/pack/matmul-nbits.ts, with codes as rows [vocabulary, hidden * bits / 8].
 */

import type { Builder } from '../../graph/builder.ts'
import type { DType } from '../../graph/dtype.ts'
import type { Value } from '../../graph/ir.ts'
import { symmetricZeroPoint } from '../../kernels/qparams.ts'

/** A quantized table [vocabulary, hidden]: its constants in the graph, and how to read them. */
export interface QuantizedTable {
  readonly codes: Value
  readonly scales: Value
  /** Undefined: zero is the code 2^(bits-1). */
  readonly zeroPoints: Value | undefined
  readonly bits: number
  readonly blockSize: number
  /** Blocks of a row. */
  readonly blocks: number
  readonly hidden: number
  readonly dtype: DType
}

/** com.microsoft GatherBlockQuantized (opset 1). @returns [.., hidden], of the scales' type. */
export function writeBlockLookup(g: Builder, ids: Value, table: QuantizedTable): Value {
  const { codes, scales, zeroPoints, bits, blockSize, dtype } = table
  return g.op(
    'GatherBlockQuantized',
    [codes, ids, scales, ...(zeroPoints ? [zeroPoints] : [])],
    { bits, block_size: blockSize, gather_axis: 0, quantize_axis: 1 },
    { role: `Q${bits}`, domain: 'com.microsoft', dtype },
  )
}

/**
 * The same numbers by operators of ai.onnx, opset 11: Gather takes the stored rows, and only those are unpacked and dequantized. Nothing
 * reads the table but Gather, whose ids are known when the model runs: the table stays as small in memory as it is in the file.
 * @returns [.., hidden], of the scales' type.
 */
export function writeStandardLookup(g: Builder, ids: Value, table: QuantizedTable): Value {
  const { codes, scales, zeroPoints, bits, blockSize, blocks, hidden, dtype } = table
  const op = (opType: string, inputs: Value[], role: string, attributes: Record<string, number | string> = {}) =>
    g.op(opType, inputs, attributes, { role })
  const idsShape = g.op('Shape', [ids], {}, { role: 'ids_shape', dtype: 'int64' })
  const shape = (tail: readonly number[]) => op('Concat', [idsShape, g.ints(tail)], 'shape', { axis: 0 })
  /** `value` in the shape [..ids, ..tail]. */
  const shaped = (value: Value, tail: readonly number[]) => op('Reshape', [value, shape(tail)], 'shaped')
  /** The first `count` of the last axis, which has `all`. */
  const first = (value: Value, count: number, all: number) =>
    count === all ? value : op('Slice', [value, g.ints([0]), g.ints([count]), g.ints([-1])], 'cut')
  /** Rows of codes [.., count] out of stored bytes, lowest bits first, as numbers of the table's type. */
  const codesOf = (stored: Value, count: number): Value => {
    const rows = op('Gather', [stored, ids], 'rows', { axis: 0 })
    return g.cast(bits === 8 ? rows : unpacked(rows, count), dtype)
  }
  const unpacked = (rows: Value, count: number): Value => {
    const perByte = 8 / bits
    const bytes = Math.ceil(count / perByte)
    const column = shaped(rows, [bytes, 1])
    const shift = (value: Value, direction: 'LEFT' | 'RIGHT', by: number) =>
      by === 0 ? value : op('BitShift', [value, g.scalar(by, 'uint8')], 'shifted', { direction })
    // The left shift drops the bits above a part, the right shift those below it.
    const parts = Array.from({ length: perByte }, (_, i) =>
      shift(shift(column, 'LEFT', 8 - bits * (i + 1)), 'RIGHT', 8 - bits),
    )
    const joined = op('Concat', parts, 'joined', { axis: -1 })
    return first(shaped(joined, [bytes * perByte]), count, bytes * perByte)
  }
  const all = blocks * blockSize
  // A short last block: numbers of blocks are repeated for each element, and what is too much is cut off.
  const isRagged = all !== hidden
  const ofBlocks = (values: Value): Value => {
    const column = shaped(values, [blocks, 1])
    if (!isRagged) return column
    const repeated = op('Expand', [column, shape([blocks, blockSize])], 'repeated')
    return first(shaped(repeated, [all]), hidden, all)
  }
  const numbers = codesOf(codes, hidden)
  const zero = zeroPoints
    ? ofBlocks(codesOf(zeroPoints, blocks))
    : g.cast(g.scalar(symmetricZeroPoint(bits), 'uint8'), dtype)
  const centered = op('Sub', [isRagged ? numbers : shaped(numbers, [blocks, blockSize]), zero], 'centered')
  const scale = ofBlocks(op('Gather', [scales, ids], 'scales', { axis: 0 }))
  const product = op('Mul', [centered, scale], 'dequantized')
  return isRagged ? product : shaped(product, [hidden])
}
