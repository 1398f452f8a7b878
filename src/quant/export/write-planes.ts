/**
 * @file Takes packed planes apart in the user's graph, by operators of opset 11 on uint8 and int32. They read constants only, so
 * onnxruntime runs them once, when the model is loaded, and keeps their result instead. Layout in kernels/pack/planes.ts.
 */

import type { GraphWriter, Stem } from '../../graph/graph-writer.ts'
import type { Value } from '../../graph/ir.ts'
import { tensorOf } from '../../graph/tensor.ts'
import type { PackedPlanes, Plane } from '../../kernels/pack/planes.ts'
import { symmetricZeroPoint } from '../../kernels/qparams.ts'

/** Codes less 2^(bits-1), int8 [K, N]: what integer products take. */
export function writeInt8Weight(writer: GraphWriter, stem: Stem, packed: PackedPlanes): Value {
  if (isBytePlane(packed)) return storedPlane(writer, stem, packed.planes[0]!)
  const middle = writer.scalar(symmetricZeroPoint(packed.bits), 'int32')
  const centered = writer.op(stem, 'centered', 'Sub', [writeCodes(writer, stem, packed), middle])
  return writer.cast(stem, centered, 'int8')
}

/** (code - zeroPoint) * scale, float32 [K, N]. */
export function writeFloatWeight(writer: GraphWriter, stem: Stem, packed: PackedPlanes): Value {
  const { bits, N, scale, zeroPoint } = packed
  const bytes = isBytePlane(packed)
  const codes = bytes ? storedPlane(writer, stem, packed.planes[0]!) : writeCodes(writer, stem, packed)
  const zeros = Float32Array.from(zeroPoint, zero => zero - (bytes ? symmetricZeroPoint(bits) : 0))
  const zero = writer.constant(`${stem.values}_zero_point`, tensorOf('float32', [N], zeros))
  const centered = writer.op(stem, 'centered', 'Sub', [writer.cast(stem, codes, 'float32'), zero])
  const scales = writer.constant(`${stem.values}_scale`, tensorOf('float32', [N], scale))
  return writer.op(stem, 'dequantized', 'Mul', [centered, scales])
}

const isBytePlane = ({ planes }: PackedPlanes): boolean => planes[0]!.bits === 8

const storedPlane = (writer: GraphWriter, stem: Stem, { bits, tensor }: Plane): Value =>
  writer.constant(`${stem.values}_Q${bits}`, tensor)

/** The codes, int32 [K, N]. */
function writeCodes(writer: GraphWriter, stem: Stem, { planes, N }: PackedPlanes): Value {
  const parts = planes.map(plane => {
    const part = writer.cast(stem, writePlane(writer, stem, plane, N), 'int32')
    return plane.shift === 0 ? part : writer.op(stem, 'high', 'Mul', [part, writer.scalar(2 ** plane.shift, 'int32')])
  })
  return parts.reduce((low, high) => writer.op(stem, 'codes', 'Add', [low, high]))
}

/** The bits of one plane, uint8 [K, N]. */
function writePlane(writer: GraphWriter, stem: Stem, plane: Plane, N: number): Value {
  const stored = storedPlane(writer, stem, plane)
  const columns = plane.tensor.dims[1]!
  const shift = (value: Value, direction: 'LEFT' | 'RIGHT', by: number) =>
    by === 0
      ? value
      : writer.op(stem, 'shifted', 'BitShift', [value, writer.scalar(by, 'uint8')], { attributes: { direction } })
  // Shifting left drops what lies above a part, shifting right what lies below it.
  const parts = Array.from({ length: 8 / plane.bits }, (_, i) =>
    shift(shift(stored, 'LEFT', 8 - plane.bits * (i + 1)), 'RIGHT', 8 - plane.bits),
  )
  const joined = writer.op(stem, 'joined', 'Concat', parts, { attributes: { axis: 1 } })
  if (columns * parts.length === N) return joined
  return writer.op(stem, 'columns', 'Slice', [joined, writer.ints(0), writer.ints(N), writer.ints(1)])
}
