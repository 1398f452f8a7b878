/** @file The commands: calls of the package's functions, and what they end with. */

import { faceFor, type RunOptions } from '../engine/engine.ts'
import type { DoctorReport } from '../doctor/examine.ts'
import { QuantError } from '../errors.ts'
import { nameOptionsIn } from '../option-mark.ts'
import { flagName } from './flags.ts'
import { formatEvaluation, formatInspection, formatQuantized } from './format.ts'
import { formatDoctor } from './format-doctor.ts'
import type { QuantizeReport } from '../quant/terms/report.ts'
import type { DoctorCommand, EvaluateCommand, InspectCommand, Invocation, QuantizeCommand } from './options.ts'
import type { Outcome } from './outcome.ts'
import { readOverrides } from './overrides-file.ts'
import { showProgress, type StatusLine } from './progress.ts'

const { quantize, evaluate, inspect } = faceFor(flagName)

async function runQuantize({ options, overridesFile }: QuantizeCommand, calling: RunOptions): Promise<Outcome> {
  const fromFile = overridesFile === undefined ? [] : readOverrides(overridesFile)
  const report = await quantize({ ...options, overrides: [...fromFile, ...(options.overrides ?? [])] }, calling)
  const outcome = { document: report, text: formatQuantized(report, report.evaluation) }
  const missed = missedLimit(report)
  return missed === undefined ? outcome : { ...outcome, failure: new QuantError('E_LIMIT', missed) }
}

/** Message about a limit that bits were chosen for and the output does not hold. It is there all the same. */
function missedLimit({ choice, output, sizeAfter }: QuantizeReport): string | undefined {
  const { maxSize, maxKl, measuredKl, predictedKl } = choice ?? {}
  if (maxSize !== undefined && sizeAfter > maxSize)
    return `${output} has ${sizeAfter} bytes, above the limit of ${maxSize}`
  // Written so that a divergence that is not a number passes the limit too.
  if (maxKl === undefined || measuredKl === undefined || measuredKl <= maxKl) return undefined
  return `the logits of ${output} diverge by ${measuredKl.toPrecision(3)} (${predictedKl!.toPrecision(3)} were predicted), above the limit of ${maxKl}`
}

async function runInspect({ options }: InspectCommand, calling: RunOptions): Promise<Outcome> {
  const report = await inspect(options, calling)
  return { document: report, text: formatInspection(report) }
}

async function runEvaluate({ options, maxPerplexity }: EvaluateCommand, calling: RunOptions): Promise<Outcome> {
  const report = await evaluate(options, calling)
  const outcome = { document: report, text: formatEvaluation(report) }
  // Written so that a perplexity that is not a number passes every limit too.
  if (maxPerplexity === undefined || report.perplexity <= maxPerplexity) return outcome
  const message = `the perplexity of ${report.model} is ${report.perplexity.toFixed(3)}, above the limit of ${maxPerplexity}`
  return { ...outcome, failure: new QuantError('E_LIMIT', message) }
}

/** A machine on which onnxruntime itself does not load is a failure: nothing else works then. */
async function runDoctor(
  { install, into }: DoctorCommand,
  { say, note }: StatusLine,
  signal: AbortSignal,
): Promise<Outcome> {
  const [{ examine }, { installCuda }] = await Promise.all([
    import('../doctor/examine.ts'),
    import('../doctor/install-cuda.ts'),
  ])
  if (install)
    note(
      'fetching the CUDA provider, CUDA and cuDNN: 1.1 GB to download, 1.5 GB on the disk; what is there already stays',
    )
  const installed = install ? await installCuda({ into, onProgress: say, signal }) : undefined
  const examined = await examine({ onTry: device => say(`trying ${device}`), signal })
  const report = nameOptionsIn({ ...examined, ...(installed && { installed }) }, flagName) as DoctorReport
  const outcome = { document: report, text: formatDoctor(report) }
  const failure = report.devices.find(({ device }) => device === 'cpu')?.failure
  if (!failure) return outcome
  return { ...outcome, failure: new QuantError('E_ENGINE', `onnxruntime does not work here: ${failure.problem}`) }
}

/** Runs a command. @throws what the functions of the package throw. */
export function run(invocation: Invocation, status: StatusLine, signal: AbortSignal): Promise<Outcome> {
  const calling = { onProgress: showProgress(status), signal }
  switch (invocation.command) {
    case 'quantize':
      return runQuantize(invocation, calling)
    case 'inspect':
      status.say(`reading ${invocation.options.model}`)
      return runInspect(invocation, calling)
    case 'evaluate':
      return runEvaluate(invocation, calling)
    case 'doctor':
      return runDoctor(invocation, status, signal)
  }
}
