/** @file Work of the engine: one row per task, from options to a report. It happens in the process that calls it. */

import { besideReference, evaluateModel, measuredOf } from '../quant/evaluate.ts'
import { generateText } from '../quant/generate.ts'
import { inspectModel } from '../quant/inspect.ts'
import { measureModelSpeed } from '../quant/model-speed.ts'
import { quantizeModel } from '../quant/quantize-model.ts'
import type { EvaluateReport } from '../quant/evaluate.ts'
import type { ProgressEvent, QuantizeRequest, QuantizeResult, Task, TaskName, Tasks } from './messages.ts'

/** Connections of a task to its caller. */
interface Calling {
  readonly onEvent: (event: ProgressEvent) => void
  readonly signal?: AbortSignal | undefined
}

/** Quantizes, and measures both models where a text is given. */
async function quantize(
  { evaluate: text, ...options }: QuantizeRequest,
  calling: Calling,
): Promise<Omit<QuantizeResult, 'device'>> {
  if (text === undefined) return quantizeModel(options, calling)
  const { model: tokenizer, threads, device } = options
  const measure = (model: string, seqLen?: number) =>
    evaluateModel({ model, text, tokenizer, seqLen, threads, device }, calling)
  // The float model first: a text that cannot be read should not be found out after hours of learning.
  const float = await measure(options.model)
  const report = await quantizeModel(options, calling)
  const quantized = await measure(report.output, float.seqLen)
  const against = measuredOf(float)
  // The notes are about threads: the run has the same.
  const evaluation: EvaluateReport = { ...besideReference(quantized, against), notes: undefined, against }
  return { ...report, evaluation }
}

const TASKS: { readonly [Name in TaskName]: (options: Tasks[Name]['options'], calling: Calling) => Promise<unknown> } =
  {
    quantize,
    evaluate: evaluateModel,
    speed: async options => ({
      ...(await measureModelSpeed(options)),
      peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
    }),
    generate: generateText,
    inspect: options => inspectModel(options),
  }

/** The report of a task. @throws QuantError; the AbortSignal's reason when aborted. */
export function perform(task: Task, calling: Calling): Promise<unknown> {
  return (TASKS[task.name] as (options: Task['options'], calling: Calling) => Promise<unknown>)(task.options, calling)
}
