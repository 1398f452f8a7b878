/**
 * @file Unpacks planes in the user's graph by operators of opset 11 on uint8 and int32. They read constants only, so onnxruntime
 * runs them once, when it loads the model, and keeps the result. The layout is in kernels/pack/planes.ts.
 */

import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/ir.ts'
import { tensorOf } from '../../graph/tensor.ts'
import type { PackedPlanes, Plane } from '../../kernels/pack/planes.ts'
import { symmetricZeroPoint } from '../../kernels/qparams.ts'

/** Codes - 2^(bits-1), int8 [K, N], for integer products. */
export function writeInt8Weight(g: Builder, packed: PackedPlanes): Value {
  if (isBytePlane(packed)) return storedPlane(g, packed.planes[0]!)
  const middle = g.scalar(symmetricZeroPoint(packed.bits), 'int32')
  const centered = g.op('Sub', [writeCodes(g, packed), middle], {}, { role: 'centered' })
  return g.cast(centered, 'int8')
}

/** (code - zeroPoint) * scale, float32 [K, N]. */
export function writeFloatWeight(g: Builder, packed: PackedPlanes): Value {
  const { bits, N, scale, zeroPoint } = packed
  const bytes = isBytePlane(packed)
  const codes = bytes ? storedPlane(g, packed.planes[0]!) : writeCodes(g, packed)
  const zeros = Float32Array.from(zeroPoint, zero => zero - (bytes ? symmetricZeroPoint(bits) : 0))
  const zero = g.initializer('zero_point', tensorOf('float32', [N], zeros))
  const centered = g.op('Sub', [g.cast(codes, 'float32'), zero], {}, { role: 'centered' })
  const scales = g.initializer('scale', tensorOf('float32', [N], scale))
  return g.op('Mul', [centered, scales], {}, { role: 'dequantized' })
}

const isBytePlane = ({ planes }: PackedPlanes): boolean => planes[0]!.bits === 8

const storedPlane = (g: Builder, { bits, tensor }: Plane): Value => g.initializer(`Q${bits}`, tensor)

/** The codes, int32 [K, N]. */
function writeCodes(g: Builder, { planes, N }: PackedPlanes): Value {
  const parts = planes.map(plane => {
    const part = g.cast(writePlane(g, plane, N), 'int32')
    return plane.shift === 0 ? part : g.op('Mul', [part, g.scalar(2 ** plane.shift, 'int32')], {}, { role: 'high' })
  })
  return parts.reduce((low, high) => g.op('Add', [low, high], {}, { role: 'codes' }))
}

/** The bits of one plane, uint8 [K, N]. */
function writePlane(g: Builder, plane: Plane, N: number): Value {
  const stored = storedPlane(g, plane)
  const columns = plane.tensor.dims[1]!
  const shift = (value: Value, direction: 'LEFT' | 'RIGHT', by: number) =>
    by === 0 ? value : g.op('BitShift', [value, g.scalar(by, 'uint8')], { direction }, { role: 'shifted' })
  // The left shift drops the bits above a part, the right shift those below it.
  const parts = Array.from({ length: 8 / plane.bits }, (_, i) =>
    shift(shift(stored, 'LEFT', 8 - plane.bits * (i + 1)), 'RIGHT', 8 - plane.bits),
  )
  const joined = g.op('Concat', parts, { axis: 1 }, { role: 'joined' })
  if (columns * parts.length === N) return joined
  return g.op('Slice', [joined, g.ints([0]), g.ints([N]), g.ints([1])], {}, { role: 'columns' })
}
