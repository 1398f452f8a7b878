/** @file The face of the package: quantize, evaluate, generate and inspect, in a process of their own or in this one. */

import { QuantError, usageError } from '../errors.ts'
import type { Device } from '../kernels/device.ts'
import { nameOptionsIn, option, type OptionName } from '../option-mark.ts'
import { resolveOptions } from '../quant/terms/resolve-options.ts'
import { checkGenerateOptions } from '../quant/terms/generate-options.ts'
import { checkEvaluateOptions, checkInspectOptions } from '../quant/terms/read-options.ts'
import type { Traces } from '../quant/terms/report.ts'
import { checkRuntime } from './check-runtime.ts'
import { chooseDevice, type ChosenDevice } from './choose-device.ts'
import { engineEnvironment, startOptions } from './environment.ts'
import type { ProgressEvent, Task, TaskName, Tasks } from './messages.ts'
import { tryDevice } from './try-device.ts'
import { withSpeeds } from './with-speeds.ts'

/** Place of the work: a child process, which a crash of onnxruntime or an abort ends alone, or the process of the caller. */
export type EngineKind = 'process' | 'inline'

/** Second argument of quantize, evaluate, generate and inspect. */
export interface RunOptions {
  /** Called with every event of the run. An error that it throws ends the run. */
  readonly onProgress?: ((event: ProgressEvent) => void) | undefined
  /** Ends the run: at once in a process of its own, between two programs of onnxruntime inline. Finished blocks stay for the next run. */
  readonly signal?: AbortSignal | undefined
  /** Default: "process". Inline, onnxruntime blocks the event loop. */
  readonly engine?: EngineKind | undefined
}

/** A task as a function of its options. */
export type Call<Name extends TaskName> = (
  options: Tasks[Name]['options'],
  run?: RunOptions,
) => Promise<Tasks[Name]['report']>

/** The functions of the package. */
export interface Face {
  /**
   * Quantizes a model file into another one, block by block. The smallest call is `quantize({ model, scheme: 'w4a16' })`. A run that
   * ended early goes on when it is called again with the same options.
   * @throws QuantError: E_USAGE and E_SCHEME with the key of the option, E_INTERRUPTED when aborted, and those of the model, the text and the disk.
   */
  readonly quantize: Call<'quantize'>
  /**
   * Measures perplexity, size, speed and memory of models, float or quantized, and their distance from a reference. Each model is timed in a
   * process of its own.
   * @throws QuantError: E_USAGE with the key of the option, E_INTERRUPTED when aborted, and those of the model and the text.
   */
  readonly evaluate: Call<'evaluate'>
  /**
   * Continues a prompt, with one model or with two to compare. Text comes in events of type "text" as it is written.
   * @throws QuantError: E_USAGE with the key of the option, E_INTERRUPTED when aborted, and those of the model and its tokenizer.
   */
  readonly generate: Call<'generate'>
  /**
   * Describes a model file: its blocks, the linears that would be quantized, sizes. A file that cannot be quantized has a `problem`.
   * @throws QuantError: E_USAGE with the key of the option, E_INTERRUPTED when aborted, and those of files that cannot be read.
   */
  readonly inspect: Call<'inspect'>
}

/** Checks the options of a task before a process is started for it. @throws E_USAGE, E_SCHEME */
function check(task: Task): void {
  switch (task.name) {
    case 'evaluate':
      return checkEvaluateOptions(task.options)
    case 'generate':
      return checkGenerateOptions(task.options)
    case 'inspect':
      return checkInspectOptions(task.options)
    case 'quantize': {
      const { evaluate, ...options } = task.options
      if (evaluate !== undefined && typeof evaluate !== 'string')
        throw usageError(`${option('evaluate')} takes a text`, undefined, 'evaluate')
      resolveOptions(options)
    }
  }
}

/** Runs a task in this process. */
async function performInline(
  task: Task,
  onProgress: (event: ProgressEvent) => void,
  signal: AbortSignal | undefined,
): Promise<unknown> {
  const [{ perform }, { interrupted }, { isWorthKeeping }] = await Promise.all([
    import('./tasks.ts'),
    import('./interrupted.ts'),
    import('../quant/resume.ts'),
  ])
  if (signal?.aborted) throw interrupted(false)
  let traces: Traces | undefined
  const onEvent = (event: ProgressEvent) => {
    if (event.type === 'working') traces = event.traces
    onProgress(event)
  }
  try {
    return await perform(task, { onEvent, signal })
  } catch (error) {
    if (!signal?.aborted || error instanceof QuantError) throw error
    throw interrupted(traces !== undefined && isWorthKeeping(traces.work.path))
  }
}

const ENGINES: readonly unknown[] = ['process', 'inline']

/** A task with its device, once that is chosen; one that does not compute has none. */
interface Placed {
  readonly task: Task
  readonly device?: ChosenDevice
}

/** Chooses the device of a task, or tries all that are to share it. @throws E_DEVICE; E_INTERRUPTED when aborted. */
async function place(task: Task, engine: EngineKind, signal: AbortSignal | undefined): Promise<Placed> {
  if (task.name === 'inspect') return { task }
  const { device: one = 'auto' } = task.options
  const { devices: several = [] } = task.name === 'quantize' ? task.options : {}
  const trial = (name: Device) => {
    // Inline, libraries come from where this process finds them.
    const env = engine === 'inline' ? process.env : engineEnvironment(name, startOptions(task))
    return tryDevice(name, { env, signal })
  }
  try {
    const [first, ...others] = several.length > 0 ? several : [one]
    const device = await chooseDevice(first!, trial)
    const further: Device[] = []
    for (const choice of others) further.push((await chooseDevice(choice, trial)).name)
    const shared = further.length > 0 && { devices: [device.name, ...further] }
    return {
      task: { ...task, options: { ...task.options, device: device.name, ...shared } } as Task,
      device: { ...device, ...(shared && { further }) },
    }
  } catch (error) {
    if (!signal?.aborted || error instanceof QuantError) throw error
    const { interrupted } = await import('./interrupted.ts')
    throw interrupted(false)
  }
}

/** The functions of the package for readers who call options by `nameOf`. */
export function faceFor(nameOf: OptionName): Face {
  const perform = async (given: Task, { onProgress = () => {}, signal, engine = 'process' }: RunOptions) => {
    if (!ENGINES.includes(engine)) throw usageError(`engine is process or inline, not "${String(engine)}"`)
    check(given)
    checkRuntime()
    const { task, device } = await place(given, engine, signal)
    if (device) onProgress({ type: 'device', device })
    const work = async (part: Task) =>
      engine === 'inline'
        ? performInline(part, onProgress, signal)
        : (await import('./child.ts')).performInChild(part, device?.name ?? 'cpu', onProgress, signal)
    const report =
      task.name === 'evaluate' ? await withSpeeds(task.options, engine, onProgress, work) : await work(task)
    return { ...(report as object), ...(device && { device }) }
  }
  const run = async (task: Task, calling: RunOptions) => nameOptionsIn(await perform(task, calling), nameOf)
  return {
    quantize: async (options, calling = {}) =>
      (await run({ name: 'quantize', options }, calling)) as Tasks['quantize']['report'],
    evaluate: async (options, calling = {}) =>
      (await run({ name: 'evaluate', options }, calling)) as Tasks['evaluate']['report'],
    generate: async (options, calling = {}) =>
      (await run({ name: 'generate', options }, calling)) as Tasks['generate']['report'],
    inspect: async (options, calling = {}) =>
      (await run({ name: 'inspect', options }, calling)) as Tasks['inspect']['report'],
  }
}
