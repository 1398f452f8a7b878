/**
 * @file Checks gradient rules against central finite differences. For each input x of a row one random direction v is
 * drawn, and <dy, (f(x + hv) - f(x - hv)) / 2h> compared with <dx, v>. All rows of one type share a session.
 */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gradients } from '../../src/autodiff/backward.ts'
import { messageOf } from '../../src/errors.ts'
import { Builder } from '../../src/graph/builder.ts'
import { encodeModel } from '../../src/graph/onnx-file/encode.ts'
import { newModel, PROGRAM_OPSET, type Value } from '../../src/graph/ir.ts'
import { staticShape } from '../../src/graph/shape.ts'
import { elementCount, floatTensor, readNumbers, type Tensor } from '../../src/graph/tensor.ts'
import { openModel, type SessionOptions, type Tensors } from '../../src/kernels/session.ts'

export interface VjpInput {
  readonly shape: readonly number[]
  /** Values are uniform in this range; [-2, 2] when absent. */
  readonly range?: readonly [number, number]
  /** Kinks: values stay 0.05 away from these. */
  readonly avoid?: readonly number[]
  /** Exact values instead of random ones. */
  readonly values?: readonly number[]
  /** false: no gradient is computed for this input, and rules see an input that they need not serve. */
  readonly wrt?: boolean
}

export interface VjpSpec {
  /** Key of the table this row covers. */
  readonly kind: string
  readonly name: string
  readonly inputs: readonly VjpInput[]
  readonly build: (g: Builder, ...inputs: Value[]) => Value | readonly Value[]
  /** float64 unless a kernel is missing. */
  readonly dtype?: 'float32' | 'float64'
  /** Half the width of the difference. 1 is exact for functions that are linear in each input. */
  readonly step?: number
  readonly tolerance?: number
  readonly opset?: number
}

export interface VjpOutcome {
  readonly input: number
  readonly analytic: number
  readonly numeric: number
  /** Greatest allowed difference between `analytic` and `numeric`. */
  readonly allowed: number
  /** Elements of the analytic gradient. */
  readonly dx: readonly number[]
}

export interface VjpReport {
  readonly spec: VjpSpec
  readonly seed: number
  readonly outcomes: readonly VjpOutcome[]
  /** Set when the row could not be built. */
  readonly error?: unknown
}

type Optimization = SessionOptions['optimization']
type FloatType = 'float32' | 'float64'

/** mulberry32: a small generator with a 32-bit state. */
export function random(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

function sample(input: VjpInput, next: () => number): number[] {
  if (input.values) return [...input.values]
  const [low, high] = input.range ?? [-2, 2]
  return Array.from({ length: elementCount(input.shape) }, () => {
    for (;;) {
      // Rounded to float32, so that rows can be compared across types.
      const value = Math.fround(low + (high - low) * next())
      if (!input.avoid?.some(kink => Math.abs(value - kink) < 0.05)) return value
    }
  })
}

const directions = (length: number, next: () => number): number[] =>
  Array.from({ length }, () => Math.fround(2 * next() - 1))

/** Random numbers of a row. They depend on its name alone: not on the type it runs in, nor on the rows around it. */
const seedOf = (name: string): number => [...name].reduce((hash, char) => (hash * 31 + char.charCodeAt(0)) | 0, 7)

/** One row inside the common graph. */
interface Placed {
  readonly spec: VjpSpec
  readonly seed: number
  readonly x: number[][]
  readonly v: number[][]
  readonly dy: number[][]
  readonly dyShapes: (readonly number[])[]
  readonly error?: unknown
}

function place(g: Builder, spec: VjpSpec, index: number, dtype: FloatType): Placed {
  const seed = seedOf(spec.name)
  const next = random(seed)
  const x = spec.inputs.map(input => sample(input, next))
  const v = x.map(values => directions(values.length, next))
  const dy: number[][] = []
  const dyShapes: (readonly number[])[] = []
  try {
    const inputs = spec.inputs.map((input, j) => g.input(`x_${index}_${j}`, dtype, input.shape))
    const built = spec.build(g, ...inputs)
    const outputs = 'producer' in built ? [built] : built
    const seeds = new Map<Value, Value>()
    outputs.forEach((y, k) => {
      dyShapes.push(staticShape(y))
      dy.push(directions(elementCount(staticShape(y)), next))
      seeds.set(y, g.input(`dy_${index}_${k}`, y.dtype!, staticShape(y)))
    })
    const wrt = inputs.filter((_, j) => spec.inputs[j]!.wrt !== false)
    const grads = gradients(g, seeds, wrt)
    // Through Identity: a gradient may be the seed itself, which cannot change its name.
    outputs.forEach((y, k) => g.output(g.op('Identity', [y]), `y_${index}_${k}`))
    inputs.forEach((value, j) => {
      const dx = grads.get(value)
      if (dx) g.output(g.op('Identity', [dx]), `dx_${index}_${j}`)
    })
    return { spec, seed, x, v, dy, dyShapes }
  } catch (error) {
    return { spec, seed, x, v, dy: [], dyShapes: [], error }
  }
}

async function checkGroup(
  specs: readonly VjpSpec[],
  dtype: FloatType,
  opset: number,
  optimization: Optimization,
): Promise<VjpReport[]> {
  const g = new Builder()
  const rows = specs.map((spec, index) => place(g, spec, index, dtype))
  const broken = rows.find(row => row.error !== undefined)
  if (broken) return rows.map(({ spec, seed, error }) => ({ spec, seed, outcomes: [], error: error ?? broken.error }))

  const folder = mkdtempSync(join(tmpdir(), 'check-vjp-'))
  try {
    const file = join(folder, 'rows.onnx')
    writeFileSync(file, encodeModel(newModel(g.graph, opset)))
    const session = await openModel(file, { optimization, threads: 1 })
    try {
      const base = feedsOf(rows, dtype)
      const at = await session.run(base)
      const width = Math.max(...specs.map(spec => spec.inputs.length))
      const shifted: { plus: Tensors; minus: Tensors }[] = []
      for (let j = 0; j < width; j++) {
        shifted.push({
          plus: await session.run({ ...base, ...shiftedFeeds(rows, j, 1, dtype) }),
          minus: await session.run({ ...base, ...shiftedFeeds(rows, j, -1, dtype) }),
        })
      }
      return rows.map((row, index) => report(row, index, dtype, at, shifted))
    } finally {
      await session.release()
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

function feedsOf(rows: readonly Placed[], dtype: FloatType): Tensors {
  const feeds: Record<string, Tensor> = {}
  rows.forEach((row, index) => {
    row.x.forEach((values, j) => (feeds[`x_${index}_${j}`] = floatTensor(row.spec.inputs[j]!.shape, values, dtype)))
    row.dy.forEach((values, k) => (feeds[`dy_${index}_${k}`] = floatTensor(row.dyShapes[k]!, values, dtype)))
  })
  return feeds
}

const stepOf = (spec: VjpSpec, dtype: FloatType): number => spec.step ?? (dtype === 'float64' ? 1e-5 : 1e-2)

function shiftedFeeds(rows: readonly Placed[], j: number, sign: number, dtype: FloatType): Tensors {
  const feeds: Record<string, Tensor> = {}
  rows.forEach((row, index) => {
    const x = row.x[j]
    if (x === undefined || row.spec.inputs[j]!.wrt === false) return
    const h = sign * stepOf(row.spec, dtype)
    const values = x.map((value, i) => value + h * row.v[j]![i]!)
    feeds[`x_${index}_${j}`] = floatTensor(row.spec.inputs[j]!.shape, values, dtype)
  })
  return feeds
}

const dot = (a: readonly number[], b: readonly number[]): number => a.reduce((sum, value, i) => sum + value * b[i]!, 0)

function report(
  row: Placed,
  index: number,
  dtype: FloatType,
  at: Tensors,
  shifted: readonly { plus: Tensors; minus: Tensors }[],
): VjpReport {
  const { spec, seed, v, dy } = row
  const tolerance = spec.tolerance ?? (dtype === 'float64' ? 1e-6 : 2e-3)
  const outcomes = spec.inputs.flatMap((input, j) => {
    if (input.wrt === false) return []
    const dx = readNumbers(at[`dx_${index}_${j}`]!)
    const along = (outputs: Tensors) =>
      dy.reduce((sum, u, k) => sum + dot(u, readNumbers(outputs[`y_${index}_${k}`]!)), 0)
    const numeric = (along(shifted[j]!.plus) - along(shifted[j]!.minus)) / (2 * stepOf(spec, dtype))
    const size = dx.reduce((sum, value, i) => sum + Math.abs(value * v[j]![i]!), 0)
    return [{ input: j, analytic: dot(dx, v[j]!), numeric, allowed: tolerance * size, dx }]
  })
  return { spec, seed, outcomes }
}

/**
 * Runs every row, in the row's own type or in `dtype`, the nodes as they are written or as the runtime optimizes them. When
 * the common graph is refused, rows are run one by one, so that the report says which it was.
 */
export async function checkVjp(
  specs: readonly VjpSpec[],
  { dtype, optimization = 'disabled' }: { dtype?: FloatType; optimization?: Optimization } = {},
): Promise<VjpReport[]> {
  const groups = new Map<string, VjpSpec[]>()
  for (const spec of specs) {
    const key = `${dtype ?? spec.dtype ?? 'float64'} ${spec.opset ?? PROGRAM_OPSET}`
    groups.set(key, [...(groups.get(key) ?? []), spec])
  }
  const reports = new Map<VjpSpec, VjpReport>()
  const run = async (group: readonly VjpSpec[], type: FloatType, opset: number) => {
    for (const report of await checkGroup(group, type, opset, optimization)) reports.set(report.spec, report)
  }
  for (const [key, group] of groups) {
    const [type, opset] = key.split(' ') as [FloatType, string]
    try {
      await run(group, type, Number(opset))
    } catch {
      for (const spec of group) {
        await run([spec], type, Number(opset)).catch((error: unknown) =>
          reports.set(spec, { spec, seed: seedOf(spec.name), outcomes: [], error }),
        )
      }
    }
  }
  return specs.map(spec => reports.get(spec)!)
}

/** Error of a row, in words; undefined when there is none. A gradient that is zero throughout is refused. */
export function vjpFailure({ spec, seed, outcomes, error }: VjpReport): string | undefined {
  if (error !== undefined) return `${spec.name}: ${messageOf(error)}`
  for (const { input, analytic, numeric, allowed } of outcomes) {
    const where = `${spec.name}, input ${input}, seed ${seed}`
    if (allowed === 0) return `${where}: the gradient is zero, which this row cannot tell from a missing one`
    if (!(Math.abs(analytic - numeric) <= allowed))
      return `${where}\n  analytic: ${analytic}\n  numeric:  ${numeric}\n  allowed:  ${allowed}`
  }
  return undefined
}
