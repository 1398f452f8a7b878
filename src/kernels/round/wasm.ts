/**
 * @file A small assembler for WebAssembly (core specification 2.0): functions of nested expressions as a module's bytes, compiled
 * and instantiated. Knows no kernel.
 */

/** Bytes of an instruction together with its operands. */
export type Code = readonly number[]

export type ValueType = 'i32' | 'f32' | 'v128'

const TYPES: Record<ValueType, number> = { i32: 0x7f, f32: 0x7d, v128: 0x7b }

/** LEB128, unsigned. */
function unsigned(value: number): Code {
  const bytes: number[] = []
  for (let rest = value; ; rest >>>= 7) {
    if (rest < 0x80) return [...bytes, rest]
    bytes.push((rest & 0x7f) | 0x80)
  }
}

/** LEB128, signed 32 bits. */
function signed(value: number): Code {
  const bytes: number[] = []
  for (let rest = value | 0; ; rest >>= 7) {
    if (rest >= -64 && rest < 64) return [...bytes, rest & 0x7f]
    bytes.push((rest & 0x7f) | 0x80)
  }
}

/** An instruction behind its operands, in the order of the specification. */
type Instruction = (...operands: readonly Code[]) => Code

type Instructions<Name extends string> = Readonly<Record<Name, Instruction>>

const instruction =
  (...opcode: readonly number[]): Instruction =>
  (...operands) => [...operands.flat(), ...opcode]

const vector = (opcode: number, ...rest: number[]): Instruction => instruction(0xfd, ...unsigned(opcode), ...rest)

/** Any alignment, and no offset besides the address. */
const PLACE = [0, 0]

export const integer = (value: number): Code => [0x41, ...signed(value)]

export const i32: Instructions<'add' | 'sub' | 'mul' | 'shl' | 'shr' | 'lessThan' | 'load' | 'store'> = {
  add: instruction(0x6a),
  sub: instruction(0x6b),
  mul: instruction(0x6c),
  shl: instruction(0x74),
  shr: instruction(0x76),
  lessThan: instruction(0x49),
  load: instruction(0x28, ...PLACE),
  store: instruction(0x36, ...PLACE),
}

/** Smaller of two unsigned integers. */
export const smaller: Instruction = (...pair) => [...pair.flat(), ...i32.lessThan(...pair), 0x1b]

export const v128: Instructions<'load' | 'store' | 'and' | 'or' | 'anyTrue'> = {
  load: vector(0, ...PLACE),
  store: vector(11, ...PLACE),
  and: vector(78),
  or: vector(80),
  anyTrue: vector(83),
}

/** pmin(a, b) is b < a ? b : a, and pmax(a, b) is a < b ? b : a. */
export const f32x4: Instructions<'splat' | 'nearest' | 'add' | 'sub' | 'mul' | 'div' | 'pmin' | 'pmax'> = {
  splat: vector(19),
  nearest: vector(106),
  add: vector(228),
  sub: vector(229),
  mul: vector(230),
  div: vector(231),
  pmin: vector(234),
  pmax: vector(235),
}

/** load16 brings four 16-bit numbers from memory, unsigned. */
export const i32x4: Instructions<'splat' | 'shl' | 'load16'> = {
  splat: vector(17),
  shl: vector(171),
  load16: vector(4, ...PLACE),
}

export const laneOf = (value: Code, lane: number): Code => vector(27, lane)(value)

/** Four lanes, each below 256, as four bytes: repeated in every lane. */
export function narrowed(value: Code): Code {
  const halves = vector(134)(value, value)
  return vector(102)(halves, halves)
}

/** A function in the making: parameters, then locals, each known by what `get` returns. */
export class FunctionWriter {
  readonly name: string
  readonly parameters: readonly ValueType[]
  readonly result: ValueType | undefined
  private readonly locals: ValueType[] = []
  private readonly body: Code[] = []

  constructor(name: string, parameters: readonly ValueType[], result?: ValueType) {
    this.name = name
    this.parameters = parameters
    this.result = result
  }

  local(type: ValueType): number {
    return this.parameters.length + this.locals.push(type) - 1
  }

  add(...code: readonly Code[]): void {
    this.body.push(...code)
  }

  /** As in the code section: size, locals, instructions. */
  encode(): Code {
    const locals = this.locals.flatMap(type => [1, TYPES[type]])
    const content = [...unsigned(this.locals.length), ...locals, ...this.body.flat(), 0x0b]
    return [...unsigned(content.length), ...content]
  }

  type(): Code {
    const types = (list: readonly ValueType[]) => [...unsigned(list.length), ...list.map(type => TYPES[type])]
    return [0x60, ...types(this.parameters), ...types(this.result ? [this.result] : [])]
  }
}

export const get = (local: number): Code => [0x20, ...unsigned(local)]

export const set = (local: number, value: Code): Code => [...value, 0x21, ...unsigned(local)]

/** for (local = from; local < to; local += step) body, unsigned; runs once at least. */
export function loop(local: number, from: Code, to: Code, step: Code, body: readonly Code[]): Code {
  const next = set(local, i32.add(get(local), step))
  return [...set(local, from), 0x03, 0x40, ...body.flat(), ...next, ...i32.lessThan(get(local), to), 0x0d, 0, 0x0b]
}

// The WebAssembly interface of JavaScript, as far as it is used here: TypeScript has it only together with the browser's.
interface WasmMemory {
  readonly buffer: ArrayBuffer
  grow(pages: number): number
}

declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object
  readonly Instance: new (module: object) => { readonly exports: Record<string, unknown> }
}

export interface WasmInstance {
  readonly memory: WasmMemory
  readonly functions: Readonly<Record<string, (...parameters: number[]) => number>>
}

/** A module of these functions and one memory, empty at first; returns what makes instances of it. */
export function assemble(functions: readonly FunctionWriter[]): () => WasmInstance {
  const section = (id: number, entries: readonly Code[]): Code => {
    const content = [...unsigned(entries.length), ...entries.flat()]
    return [id, ...unsigned(content.length), ...content]
  }
  const exported = (name: string, kind: number, index: number): Code => {
    const text = [...Buffer.from(name)]
    return [...unsigned(text.length), ...text, kind, ...unsigned(index)]
  }
  const bytes = Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(
      1,
      functions.map(each => each.type()),
    ),
    ...section(
      3,
      functions.map((_, i) => unsigned(i)),
    ),
    ...section(5, [[0, 0]]),
    ...section(7, [exported('memory', 2, 0), ...functions.map(({ name }, i) => exported(name, 0, i))]),
    ...section(
      10,
      functions.map(each => each.encode()),
    ),
  ])
  const module = new WebAssembly.Module(bytes)
  return () => {
    const { memory, ...rest } = new WebAssembly.Instance(module).exports
    return { memory: memory as WasmMemory, functions: rest as WasmInstance['functions'] }
  }
}
