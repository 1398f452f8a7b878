/** @file A program over many samples on one or several devices: a run is divided among them, and its results are put together. */

import { internalError } from '../errors.ts'
import type { Graph } from '../graph/ir.ts'
import { newModel } from '../graph/ir.ts'
import { encodeModel } from '../graph/onnx-file/encode.ts'
import { readElements, readNumbers, type Tensor, tensorOf } from '../graph/tensor.ts'
import { type DeviceWorker, workersFor } from './device-worker.ts'
import { compile, type Session, type SessionOptions, type Tensors } from './session.ts'

/** Combination of what the devices give for one value: element by element; `mean` weighs each device by its samples. */
export type Combination = 'max' | 'min' | 'sum' | 'mean'

/**
 * Outputs that are not stacked over the samples. `state` names the run input that a sum starts from: only one device is given it, the
 * others start from zero.
 */
export type Combinations = Readonly<Record<string, { readonly over: Combination; readonly state?: string }>>

/** A program that can be run. */
export type Runnable = Pick<Session, 'run' | 'release'>

/** Samples of a run, in parts that differ by one at most; none is empty. */
export function partsOf(samples: number, devices: number): number[] {
  return Array.from({ length: devices }, (_, i) => Math.floor((samples + devices - 1 - i) / devices)).filter(n => n > 0)
}

/** Rows first .. first + count - 1 of a tensor in memory, without copying. */
function rows({ dtype, dims, data }: Tensor, first: number, count: number): Tensor {
  const bytes = data as Uint8Array
  const width = bytes.length / dims[0]!
  return { dtype, dims: [count, ...dims.slice(1)], data: bytes.subarray(first * width, (first + count) * width) }
}

/** Tensors one after the other along their first axis. */
function joined(tensors: readonly Tensor[]): Tensor {
  const [{ dtype, dims }] = tensors as [Tensor]
  const count = tensors.reduce((sum, tensor) => sum + tensor.dims[0]!, 0)
  const data = new Uint8Array(Buffer.concat(tensors.map(tensor => tensor.data as Uint8Array)))
  return { dtype, dims: [count, ...dims.slice(1)], data }
}

const COMBINE: Readonly<Record<Combination, (a: number, b: number) => number>> = {
  max: Math.max,
  min: Math.min,
  sum: (a, b) => a + b,
  mean: (a, b) => a + b,
}

/** The same value of several devices, as float32. @param shares of the devices in the samples, which add up to 1. */
function combined(tensors: readonly Tensor[], over: Combination, shares: readonly number[]): Tensor {
  const arrays = tensors.map(tensor => readElements(tensor) as Float32Array)
  const weights = shares.map(share => (over === 'mean' ? share : 1))
  const combine = COMBINE[over]
  const result = arrays[0]!.map((x, i) => {
    let value = x * weights[0]!
    for (let d = 1; d < arrays.length; d++) value = combine(value, arrays[d]![i]! * weights[d]!)
    return value
  })
  return tensorOf('float32', tensors[0]!.dims, result)
}

/** A session of another process. */
class RemoteSession {
  private readonly worker: DeviceWorker
  private readonly id: number
  readonly compiled: Promise<unknown>

  constructor(worker: DeviceWorker, program: Uint8Array, options: SessionOptions, fixed: Tensors) {
    this.worker = worker
    worker.enter()
    const { device } = worker
    const { id, outputs } = worker.ask({ type: 'compile', program, options: { ...options, device }, fixed })
    this.id = id
    this.compiled = outputs
  }

  start(feeds: Tensors) {
    return this.worker.ask({ type: 'run', session: this.id, feeds })
  }

  async release(): Promise<void> {
    // What fails is that the process has ended, and the session with it.
    await this.worker.ask({ type: 'release', session: this.id }).outputs.catch(() => {})
    this.worker.leave()
  }
}

/** Sessions for one program on several devices, the first of them in this process. */
class SharedSession implements Runnable {
  private readonly own: Session
  private readonly others: readonly RemoteSession[]
  private readonly combinations: Combinations
  /** Name of the number of samples: that of the run input that says it, and of the first dimension of what there is for each sample. */
  private readonly count: string
  /** Names of what has an entry for each sample. */
  private readonly divided: ReadonlySet<string>

  constructor(graph: Graph, own: Session, others: readonly RemoteSession[], combinations: Combinations) {
    this.own = own
    this.others = others
    this.combinations = combinations
    const count = graph.inputs.flatMap(({ shape }) => shape?.[0]).find(dim => typeof dim === 'string')
    if (count === undefined) throw internalError(`the program "${graph.name}" runs over no samples`)
    this.count = count
    this.divided = new Set(
      [...graph.inputs, ...graph.outputs].flatMap(({ shape, name }) => (shape?.[0] === count ? name : [])),
    )
  }

  /** @throws the error of the first device that fails. */
  async run(feeds: Tensors): Promise<Tensors> {
    const { count, divided, combinations } = this
    const samples = readNumbers(feeds[count]!)[0]!
    const parts = partsOf(samples, 1 + this.others.length)
    const starts = Object.values(combinations).flatMap(({ state }) => state ?? [])
    const feedsOf = (device: number): Tensors => {
      const first = parts.slice(0, device).reduce((sum, n) => sum + n, 0)
      const given = Object.entries(feeds).map(([name, tensor]): [string, Tensor] => {
        if (name === count) return [name, tensorOf('int64', [], BigInt64Array.of(BigInt(parts[device]!)))]
        if (divided.has(name)) return [name, rows(tensor, first, parts[device]!)]
        const isZero = device > 0 && starts.includes(name)
        return [name, isZero ? { ...tensor, data: new Uint8Array((tensor.data as Uint8Array).length) } : tensor]
      })
      return Object.fromEntries(given)
    }
    const started = this.others.slice(0, parts.length - 1).map((other, i) => other.start(feedsOf(i + 1)))
    // A run in this process blocks it, and what is not sent by then would wait.
    await Promise.all(started.map(({ sent }) => sent))
    const own = await this.own.run(feedsOf(0))
    const results = [own, ...(await Promise.all(started.map(({ outputs }) => outputs)))]
    const shares = parts.map(n => n / samples)
    return Object.fromEntries(
      Object.keys(own).map(name => {
        const tensors = results.map(result => result[name]!)
        if (divided.has(name)) return [name, joined(tensors)]
        const combination = combinations[name]
        if (!combination) throw internalError(`nothing says how several devices give one "${name}"`)
        return [name, combined(tensors, combination.over, shares)]
      }),
    )
  }

  async release(): Promise<void> {
    await Promise.all([this.own.release(), ...this.others.map(other => other.release())])
  }
}

/**
 * Compiles a program whose run inputs and outputs have an entry for each sample: their first dimension has the name of the int64 run
 * input with the number of samples. With several devices each gets its part of a run's samples. The result depends on the number of
 * devices, and on the numbers of samples of the runs.
 * @throws E_RUNTIME; E_ENGINE when the process of a device ends.
 */
export async function compileShared(
  graph: Graph,
  options: SessionOptions,
  fixed: Tensors,
  combinations: Combinations,
): Promise<Runnable> {
  const [, ...further] = options.devices ?? []
  if (further.length === 0) return compile(graph, options, fixed)
  const program = encodeModel(newModel(graph))
  const others = workersFor(further).map(worker => new RemoteSession(worker, program, options, fixed))
  try {
    const own = await compile(graph, options, fixed)
    const session = new SharedSession(graph, own, others, combinations)
    await Promise.all(others.map(({ compiled }) => compiled)).catch(async (error: unknown) => {
      await own.release()
      throw error
    })
    return session
  } catch (error) {
    for (const other of others) await other.release()
    throw error
  }
}
