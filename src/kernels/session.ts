/**
 * @file The door to onnxruntime-node: compile a graph, run it, give everything back.
 * `run` blocks the event loop and cannot be cancelled (one call is the unit of progress and of cancellation).
 */

import { dirname, relative } from 'node:path'
import * as ort from 'onnxruntime-node'
import { internalError, isMemoryError, memoryError, messageOf, QuantError } from '../errors.ts'
import { isFileRange } from '../files/file-range.ts'
import type { DType } from '../graph/dtype.ts'
import { Graph, newModel, tensorsOf, Value } from '../graph/ir.ts'
import { encodeModel, type Place } from '../graph/onnx-file/encode.ts'
import { isInside } from '../graph/onnx-file/external-data.ts'
import { type Elements, readElements, type Tensor, tensorOf } from '../graph/tensor.ts'
import { type Device, providerOf } from './device.ts'

/** Version of onnxruntime. */
export const runtimeVersion: string = ort.env.versions.node ?? ort.env.versions.common

export interface SessionOptions {
  /** Threads within one operation; onnxruntime's own choice (all cores) when absent. */
  readonly threads?: number
  /** Default: the CPU. */
  readonly device?: Device
  /** 'disabled' runs the nodes exactly as written. */
  readonly optimization?: 'disabled' | 'basic' | 'extended' | 'all'
  /**
   * Keep a second, rearranged copy of constant weights for speed. Off saves that memory, but makes MatMulNBits slow
   * (onnxruntime 1.30): on for models that are only run, off for programs over weights mapped from disk.
   */
  readonly prepacking?: boolean
  /**
   * accuracy_level of the MatMulNBits that onnxruntime makes of a MatMul of a DequantizeLinear: 4 rounds activations to 8 bits (its
   * own choice), 0 computes in float32.
   */
  readonly qdqAccuracyLevel?: 0 | 4
  /**
   * Plan the memory of a run from the run before (default): a few percent faster, but the plan's memory comes on top of what the first
   * run took.
   */
  readonly memoryPattern?: boolean
  /** Place of run inputs that never change (`compile`); chosen by the device when absent. */
  readonly fixedInputs?: 'fed' | 'resident'
}

/** Types that outputs may have. onnxruntime-node ends the process on 4-bit outputs, and has no tensors of some other types. */
const FETCHABLE: ReadonlySet<DType | undefined> = new Set<DType>([
  'float32',
  'float64',
  'float16',
  'bool',
  'int8',
  'int16',
  'int32',
  'int64',
  'uint8',
  'uint16',
  'uint32',
  'uint64',
])

export type Tensors = Record<string, Tensor>

export interface ValueInfo {
  readonly name: string
  readonly dtype: DType | undefined
  /** Symbolic dimensions by name. */
  readonly shape: readonly (number | string)[]
}

function toOrt(tensor: Tensor): ort.Tensor {
  const elements = readElements(tensor)
  const dims = [...tensor.dims]
  if (tensor.dtype === 'float16') {
    // On Node 24 a float16 tensor insists on Float16Array and then miscounts its bytes: build it as uint16 and rename it.
    const half = new ort.Tensor('uint16', elements as Uint16Array, dims)
    return Object.defineProperty(half, 'type', { value: 'float16' }) as ort.Tensor
  }
  return new ort.Tensor(tensor.dtype as 'float32', elements as Float32Array, dims)
}

function fromOrt(tensor: ort.Tensor): Tensor {
  const data = tensor.data as unknown as Elements
  return tensorOf(tensor.type as DType, tensor.dims, data)
}

function describe(metadata: readonly ort.InferenceSession.ValueMetadata[]): ValueInfo[] {
  return metadata.map(info =>
    info.isTensor
      ? { name: info.name, dtype: info.type as DType, shape: info.shape }
      : { name: info.name, dtype: undefined, shape: [] },
  )
}

/** Node and reason of onnxruntime's message about a run, without its status codes. */
function whereAndWhy(message: string): string {
  const match = /while running (\S+) node\. Name:'([^']*)' Status Message: ([^]*)$/.exec(message)
  return match ? `${match[1]} "${match[2]}": ${match[3]!.trim()}` : `the graph: ${message}`
}

/** A compiled graph. Call `release` when done: the garbage collector does not see the native memory. */
export class Session {
  readonly inputs: readonly ValueInfo[]
  readonly outputs: readonly ValueInfo[]
  private readonly native: ort.InferenceSession
  private readonly fixed: Tensors

  /** @param fixed run inputs that are the same in every run. */
  constructor(native: ort.InferenceSession, fixed: Tensors = {}) {
    this.native = native
    this.fixed = fixed
    this.inputs = describe(native.inputMetadata)
    this.outputs = describe(native.outputMetadata)
  }

  /**
   * Runs the graph; `fetches` limits which outputs are computed and returned.
   * @throws E_RUNTIME with the node and onnxruntime's own reason.
   */
  async run(feeds: Tensors, fetches?: readonly string[]): Promise<Tensors> {
    for (const { name, dtype } of this.outputs)
      if (!FETCHABLE.has(dtype) && (fetches?.includes(name) ?? true))
        throw new QuantError(
          'E_RUNTIME',
          `onnxruntime cannot hand over the output "${name}" of type ${dtype ?? 'unknown'}`,
        )
    const inputs = Object.fromEntries(
      Object.entries({ ...this.fixed, ...feeds }).map(([name, tensor]) => [name, toOrt(tensor)]),
    )
    try {
      const outputs = await (fetches ? this.native.run(inputs, [...fetches]) : this.native.run(inputs))
      return Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, fromOrt(tensor as ort.Tensor)]))
    } catch (error) {
      const message = messageOf(error)
      if (isMemoryError(message)) throw memoryError(`onnxruntime ran ${whereAndWhy(message)}`, error)
      throw new QuantError('E_RUNTIME', `onnxruntime could not run ${whereAndWhy(message)}`)
    }
  }

  async release(): Promise<void> {
    await this.native.release()
  }
}

/** @param dataFolder what the locations of external data are relative to; that of the model file when absent. */
function nativeOptions(options: SessionOptions, dataFolder?: string): ort.InferenceSession.SessionOptions {
  const session: Record<string, string> = {}
  if (options.prepacking === false) session['disable_prepacking'] = '1'
  if (options.qdqAccuracyLevel !== undefined)
    session['qdq_matmulnbits_accuracy_level'] = String(options.qdqAccuracyLevel)
  if (dataFolder !== undefined) session['model_external_initializers_file_folder_path'] = dataFolder
  return {
    executionProviders: [providerOf(options.device ?? 'cpu')],
    graphOptimizationLevel: options.optimization ?? 'all',
    enableMemPattern: options.memoryPattern ?? true,
    logSeverityLevel: 4, // fatal only: errors are thrown with the same words, and warnings are not the user's business
    ...(options.threads !== undefined && { intraOpNumThreads: options.threads }),
    extra: { session },
  }
}

async function create(
  source: Uint8Array | string,
  options: SessionOptions,
  what: string,
  dataFolder?: string,
  externalData: readonly ExternalData[] = [],
): Promise<ort.InferenceSession> {
  try {
    const native = { ...nativeOptions(options, dataFolder), ...(externalData.length > 0 && { externalData }) }
    return typeof source === 'string'
      ? await ort.InferenceSession.create(source, native)
      : await ort.InferenceSession.create(source, native)
  } catch (error) {
    const message = messageOf(error)
    if (isMemoryError(message)) throw memoryError(`onnxruntime loaded ${what}`, error)
    throw new QuantError('E_RUNTIME', `onnxruntime could not load ${what}: ${message}`)
  }
}

/**
 * The folder that all tensors not read into memory lie in or below. onnxruntime maps from one folder and follows no path out of it:
 * that of the model may be a link to where its data are, or hold links to them (Hugging Face's cache).
 */
function commonFolder(graph: Graph): string | undefined {
  let common: string | undefined
  for (const { data } of tensorsOf(graph)) {
    if (!isFileRange(data)) continue
    const folder = dirname(data.file)
    common ??= folder
    while (!isInside(common, folder)) common = dirname(common)
  }
  return common
}

/** Bytes under a name that stands for a data file. */
interface ExternalData {
  readonly path: string
  readonly data: Uint8Array
}

/**
 * The graph with values for some of its inputs. Such an input is an initializer too: onnxruntime puts it on the device when it loads the
 * program, and because a run might give another value it neither folds, rearranges nor copies it (ONNX IR 4, onnxruntime 1.30).
 */
function withValues(graph: Graph, values: Tensors): Graph {
  const result: Graph = Object.assign(new Graph(), graph)
  const given = Object.entries(values).map(([name, tensor]) => new Value(name, tensor.dtype, tensor.dims, tensor))
  result.initializers = [...graph.initializers, ...given]
  return result
}

/**
 * Compiles a graph of ours. Tensors still on disk are mapped from there.
 * @param fixed run inputs that are the same in every run, as the weights of a block. This is the one place that decides where they are:
 * on the CPU each run reads them where they lie, without a copy; other devices are sent them once, here.
 * @throws E_RUNTIME
 */
export async function compile(graph: Graph, options: SessionOptions = {}, fixed: Tensors = {}): Promise<Session> {
  const { device = 'cpu', fixedInputs = device === 'cpu' ? 'fed' : 'resident' } = options
  const resident = fixedInputs === 'resident' ? fixed : {}
  const external = new Map(
    Object.entries(resident).flatMap(([path, { data }]) => (isFileRange(data) ? [] : [[data, path] as const])),
  )
  const given = withValues(graph, resident)
  const folder = commonFolder(given)
  const place: Place = ({ data }) => {
    if (!isFileRange(data)) {
      const location = external.get(data)
      return location === undefined ? undefined : { location, offset: 0, length: data.length }
    }
    if (data.conversion) throw internalError(`the program "${graph.name}" cannot map numbers that are converted`)
    return { location: relative(folder!, data.file), offset: data.offset, length: data.length }
  }
  const program = encodeModel(newModel(given), place)
  const externalData = [...external].map(([data, path]) => ({ path, data }))
  const what = `the program "${graph.name}"`
  const native = await create(program, { prepacking: false, ...options }, what, folder, externalData)
  return new Session(native, fixedInputs === 'fed' ? fixed : {})
}

/** Opens a model file as any user of onnxruntime would. @throws E_RUNTIME */
export async function openModel(path: string, options: SessionOptions = {}): Promise<Session> {
  return new Session(await create(path, options, path))
}

/** Compiles, runs once, releases. */
export async function runGraph(graph: Graph, feeds: Tensors = {}, options: SessionOptions = {}): Promise<Tensors> {
  const session = await compile(graph, options)
  try {
    return await session.run(feeds)
  } finally {
    await session.release()
  }
}
