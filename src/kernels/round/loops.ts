/**
 * @file The inner loops of rounding a weight, in WebAssembly: extremes of groups, codes, and widening what is stored. Knows neither
 * where weights come from nor how scales are chosen. Legend in qparams.ts; kernels/weights.ts and kernels/pack/matmul-nbits.ts are the definition.
 *
 * Everything works on tiles: w float32 [rows, cols] at an address, its rows `stride` bytes apart, cols at least four. Four columns
 * are worked on at a time; the last four overlap those before them where cols is no multiple, which computes the same again.
 */

import {
  assemble,
  type Code,
  f32x4,
  FunctionWriter,
  get,
  i32,
  i32x4,
  integer,
  laneOf,
  loop,
  narrowed,
  set,
  smaller,
  v128,
  type ValueType,
  type WasmInstance,
} from './wasm.ts'

const VECTOR = 16

const bits = (value: number): Code => i32x4.splat(integer(value))

/** The bit pattern of a float32 number, in four lanes. */
const floats = (value: number): Code => bits(new Int32Array(Float32Array.of(value).buffer)[0]!)

/** Over the columns of a tile, in bytes from its left edge: `at` is where four of them begin. */
function overColumns(f: FunctionWriter, cols: number, body: (at: Code) => readonly Code[]): Code {
  const [next, at] = [f.local('i32'), f.local('i32')]
  const width = i32.shl(get(cols), integer(2))
  const inside = set(at, smaller(get(next), i32.sub(width, integer(VECTOR))))
  return loop(next, integer(0), width, integer(VECTOR), [inside, ...body(get(at))])
}

const TILE: readonly ValueType[] = ['i32', 'i32', 'i32', 'i32']

const [W, STRIDE, ROWS, COLS] = [0, 1, 2, 3]

const end: Code = i32.add(get(W), i32.mul(get(STRIDE), get(ROWS)))

/** extremes(tile, lo, hi) -> not 0 when something is not finite. Lowers lo [cols] and raises hi [cols], float32. */
function extremes(): FunctionWriter {
  const f = new FunctionWriter('extremes', [...TILE, 'i32', 'i32'], 'i32')
  const [lo, hi] = [4, 5]
  const [row, x, strange] = [f.local('i32'), f.local('v128'), f.local('v128')]
  const widen = (list: number, at: Code, pick: (...operands: Code[]) => Code) => {
    const place = i32.add(get(list), at)
    return v128.store(place, pick(v128.load(place), get(x)))
  }
  const columns = overColumns(f, COLS, at => [
    set(x, v128.load(i32.add(get(row), at))),
    widen(lo, at, f32x4.pmin),
    widen(hi, at, f32x4.pmax),
    // x - x has no bit set for every finite number.
    set(strange, v128.or(get(strange), f32x4.sub(get(x), get(x)))),
  ])
  f.add(loop(row, get(W), end, get(STRIDE), [columns]), v128.anyTrue(get(strange)))
  return f
}

/** Parameters of what makes codes: a tile, scale, zero [cols], bottom, top, where to, and how far its rows are apart. */
const QUANTIZE: readonly ValueType[] = [...TILE, 'i32', 'i32', 'f32', 'f32', 'i32', 'i32']

const [SCALE, ZERO, BOTTOM, TOP, OUT, OUT_STRIDE] = [4, 5, 6, 7, 8, 9]

/** clip(round(w / scale) + zero, bottom, top) as integers; the four w at `address`. */
function quantizer(f: FunctionWriter): {
  readonly begin: Code
  readonly column: (at: Code) => Code
  readonly codes: (address: Code) => Code
} {
  const [scale, zero, bottom, top] = (['v128', 'v128', 'v128', 'v128'] as const).map(type => f.local(type)) as [
    number,
    number,
    number,
    number,
  ]
  const load = (local: number, list: number, at: Code) => set(local, v128.load(i32.add(get(list), at)))
  return {
    begin: [...set(bottom, f32x4.splat(get(BOTTOM))), ...set(top, f32x4.splat(get(TOP)))],
    column: at => [...load(scale, SCALE, at), ...load(zero, ZERO, at)],
    codes: address => {
      const steps = f32x4.nearest(f32x4.div(v128.load(address), get(scale)))
      const clipped = f32x4.pmin(f32x4.pmax(f32x4.add(steps, get(zero)), get(bottom)), get(top))
      // Behind 2^23 the lowest bits of a float32 number are those of the integer.
      return v128.and(f32x4.add(clipped, floats(2 ** 23)), bits(0xff))
    },
  }
}

/**
 * pack{bits}(quantize): codes of every column side by side, low bits first down the rows, four bytes at a time: rows must be a
 * multiple of 32 / bits. Column n goes to out + n * outStride.
 */
function pack(width: 2 | 4 | 8): FunctionWriter {
  const f = new FunctionWriter(`pack${width}`, QUANTIZE)
  const perWord = 32 / width
  const [row, out, from, to, word] = [f.local('i32'), f.local('i32'), f.local('i32'), f.local('i32'), f.local('v128')]
  const { begin, column, codes } = quantizer(f)
  const columns = overColumns(f, COLS, at => [
    column(at),
    set(from, i32.add(get(row), at)),
    set(word, codes(get(from))),
    ...Array.from({ length: perWord - 1 }, (_, i) => [
      ...set(from, i32.add(get(from), get(STRIDE))),
      ...set(word, v128.or(get(word), i32x4.shl(codes(get(from)), integer((i + 1) * width)))),
    ]),
    set(to, i32.add(get(out), i32.mul(i32.shr(at, integer(2)), get(OUT_STRIDE)))),
    ...[0, 1, 2, 3].map(lane => [
      ...i32.store(get(to), laneOf(get(word), lane)),
      ...set(to, i32.add(get(to), get(OUT_STRIDE))),
    ]),
  ])
  const rows = loop(row, get(W), end, i32.mul(get(STRIDE), integer(perWord)), [
    columns,
    set(out, i32.add(get(out), integer(4))),
  ])
  f.add(begin, set(out, get(OUT)), rows)
  return f
}

/** codes(quantize): one byte each, as the tile lies: uint8 rows from out on, outStride bytes apart. */
function codes(): FunctionWriter {
  const f = new FunctionWriter('codes', QUANTIZE)
  const [row, out] = [f.local('i32'), f.local('i32')]
  const quantize = quantizer(f)
  const columns = overColumns(f, COLS, at => [
    quantize.column(at),
    i32.store(i32.add(get(out), i32.shr(at, integer(2))), laneOf(narrowed(quantize.codes(i32.add(get(row), at))), 0)),
  ])
  const rows = loop(row, get(W), end, get(STRIDE), [columns, set(out, i32.add(get(out), get(OUT_STRIDE)))])
  f.add(quantize.begin, set(out, get(OUT)), rows)
  return f
}

/** {name}(from, to, count): 16-bit numbers as float32, four at a time: up to three more than `count` are read and written. */
function widening(name: string, widen: (pattern: number) => Code): FunctionWriter {
  const f = new FunctionWriter(name, ['i32', 'i32', 'i32'])
  const [at, pattern] = [f.local('i32'), f.local('v128')]
  f.add(
    loop(at, integer(0), i32.shl(get(2), integer(1)), integer(8), [
      set(pattern, i32x4.load16(i32.add(get(0), get(at)))),
      v128.store(i32.add(get(1), i32.shl(get(at), integer(1))), widen(pattern)),
    ]),
  )
  return f
}

/** Exponent and mantissa moved to float32's places, the difference of the biases made up by a product: exact, subnormal or not. */
function widenHalf(pattern: number): Code {
  const magnitude = i32x4.shl(v128.and(get(pattern), bits(0x7fff)), integer(13))
  const sign = i32x4.shl(v128.and(get(pattern), bits(0x8000)), integer(16))
  return v128.or(f32x4.mul(magnitude, floats(2 ** 112)), sign)
}

/** transpose(from, to, rows, cols, toStride): float32 [rows, cols] -> [cols, rows], whose rows are toStride bytes apart. */
function transpose(): FunctionWriter {
  const f = new FunctionWriter('transpose', ['i32', 'i32', 'i32', 'i32', 'i32'])
  const [row, col, from, to] = [f.local('i32'), f.local('i32'), f.local('i32'), f.local('i32')]
  const step = i32.shl(get(3), integer(2))
  f.add(
    set(to, get(1)),
    loop(col, integer(0), step, integer(4), [
      set(from, i32.add(get(0), get(col))),
      loop(row, integer(0), i32.shl(get(2), integer(2)), integer(4), [
        i32.store(i32.add(get(to), get(row)), i32.load(get(from))),
        set(from, i32.add(get(from), step)),
      ]),
      set(to, i32.add(get(to), get(4))),
    ]),
  )
  return f
}

/** Instances share nothing: each has a memory of its own, empty at first. */
export const roundKernels: () => WasmInstance = assemble([
  extremes(),
  pack(2),
  pack(4),
  pack(8),
  codes(),
  widening('float16', widenHalf),
  widening('bfloat16', pattern => i32x4.shl(get(pattern), integer(16))),
  transpose(),
])
