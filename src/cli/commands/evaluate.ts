/** @file The command `evaluate`: measures a model, and compares with another one and with a limit. */

import { QuantError } from '../../errors.ts'
import { evaluateModel } from '../../quant/evaluate.ts'
import { formatEvaluation } from '../format.ts'
import type { EvaluateCommand } from '../options.ts'
import type { Outcome } from '../outcome.ts'
import type { StatusLine } from '../progress.ts'

export async function run(command: EvaluateCommand, status: StatusLine): Promise<Outcome> {
  const { options, maxPerplexity } = command
  const report = await evaluateModel({
    ...options,
    onProgress: (model, done, total) => status.say(`evaluating ${model}  ${done}/${total} windows`),
  })
  // Written so that a perplexity that is not a number passes every limit too.
  const failed = maxPerplexity !== undefined && !(report.perplexity <= maxPerplexity)
  return {
    document: report,
    text: formatEvaluation(report),
    ...(failed && {
      failure: new QuantError(
        'E_LIMIT',
        `the perplexity of ${report.model} is ${report.perplexity.toFixed(3)}, above the limit of ${maxPerplexity}`,
      ),
    }),
  }
}
