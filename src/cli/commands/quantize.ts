/** @file The command `quantize`: quantizes, and measures before and after when asked to. */

import { withinCores } from '../../kernels/threads.ts'
import { evaluateModel, type EvaluateReport } from '../../quant/evaluate.ts'
import { quantizeModel } from '../../quant/quantize-model.ts'
import type { OnEvent } from '../../quant/terms/report.ts'
import { formatQuantized } from '../format.ts'
import type { QuantizeCommand } from '../options.ts'
import type { Outcome } from '../outcome.ts'
import { readOverrides } from '../overrides-file.ts'
import { quantizeProgress, type StatusLine } from '../progress.ts'

export async function run(command: QuantizeCommand, status: StatusLine): Promise<Outcome> {
  const { evaluate, overridesFile } = command
  const fromFile = overridesFile === undefined ? [] : readOverrides(overridesFile)
  const options = { ...command.options, overrides: [...fromFile, ...(command.options.overrides ?? [])] }
  const progress = quantizeProgress(status)
  const report: OnEvent = event => {
    if (event.type === 'working') status.working(event.traces)
    progress(event)
  }
  const measure = (model: string, seqLen?: number) =>
    evaluateModel({
      model,
      text: evaluate!,
      tokenizer: options.model,
      seqLen,
      session: withinCores(options.session).session, // the note is quantizeModel's
      onProgress: (_, done, total) => status.say(`evaluating  ${done}/${total} windows`),
    })
  // The float model first: a text that cannot be read should not be found out after hours of learning.
  const float = evaluate === undefined ? undefined : await measure(options.model)
  const quantized = await quantizeModel({ ...options, onEvent: report })
  let evaluation: EvaluateReport | undefined
  if (float) {
    const { seqLen, model, sizeBytes, perplexity, meanLoss, tokensPerSecond, elapsedMs } = float
    const against = { model, sizeBytes, perplexity, meanLoss, tokensPerSecond, elapsedMs }
    const measured = await measure(quantized.output, seqLen)
    evaluation = { ...measured, against, ratio: measured.perplexity / perplexity }
  }
  return {
    document: { ...quantized, ...(evaluation && { evaluation }) },
    text: formatQuantized(quantized, evaluation),
  }
}
