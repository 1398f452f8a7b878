/** @file The commands: calls of the package's functions, and what they end with. */

import { checkRuntime } from '../engine/check-runtime.ts'
import { faceFor, type RunOptions } from '../engine/engine.ts'
import type { DoctorReport } from '../doctor/examine.ts'
import { QuantError, shown } from '../errors.ts'
import { nameOptionsIn } from '../option-mark.ts'
import { spellOptions } from '../quant/terms/spell-options.ts'
import { absolutePaths, EVALUATE_CONFIG, QUANTIZE_CONFIG } from './config-file.ts'
import { flagName } from './flags.ts'
import { formatInspection, formatQuantized } from './format.ts'
import { formatDoctor } from './format-doctor.ts'
import { formatEvaluation } from './format-evaluation.ts'
import { formatComparison, writtenLine } from './format-generated.ts'
import { passedLimits } from './limits.ts'
import type {
  ConfigCommand,
  DoctorCommand,
  EvaluateCommand,
  GenerateCommand,
  InspectCommand,
  Invocation,
  QuantizeCommand,
} from './options.ts'
import type { QuantizeReport } from '../quant/terms/report.ts'
import { openLog } from './log.ts'
import { nextCommand } from './next-command.ts'
import { errorObject, type Outcome } from './outcome.ts'
import { readOverrides } from './overrides-file.ts'
import { printResult } from './print.ts'
import { showProgress, type StatusLine } from './progress.ts'
import { readStdin } from './read-stdin.ts'
import { withReport } from './report-file.ts'

const { quantize, evaluate, generate, inspect } = faceFor(flagName)

/** Options with the overrides of their file, which come before their own. */
function withOverrides({ options, overridesFile }: QuantizeCommand): QuantizeCommand['options'] {
  const fromFile = overridesFile === undefined ? [] : readOverrides(overridesFile)
  return { ...options, overrides: [...fromFile, ...(options.overrides ?? [])] }
}

async function runQuantize(command: QuantizeCommand, calling: RunOptions): Promise<Outcome> {
  const report = await quantize(withOverrides(command), calling)
  const next = nextCommand(report)
  const outcome = { document: { ...report, next }, text: formatQuantized(report, report.evaluation, next) }
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

/** Runs a command with its log, where it has one: from its beginning to its report or its error. */
async function logged(
  file: string | undefined,
  calling: RunOptions,
  work: (calling: RunOptions) => Promise<Outcome>,
): Promise<Outcome> {
  if (file === undefined) return work(calling)
  const log = openLog(file)
  const onProgress: RunOptions['onProgress'] = event => {
    log.add({ ...event })
    calling.onProgress?.(event)
  }
  try {
    log.add({ type: 'started', arguments: process.argv.slice(2) })
    const outcome = await work({ ...calling, onProgress })
    log.add({ type: 'done', report: outcome.document })
    return outcome
  } catch (error) {
    log.add({ type: 'failed', ...errorObject(error) })
    throw error
  } finally {
    log.close()
  }
}

/** The options of a command as a file for --config, with absolute paths: it can lie anywhere. */
function printConfig({ of }: ConfigCommand, { note }: StatusLine): Outcome {
  if (of.command === 'evaluate')
    return { document: absolutePaths({ ...of.options }, EVALUATE_CONFIG, process.cwd()), text: undefined }
  const { evaluate, ...given } = withOverrides(of)
  const { options, adapted } = spellOptions(given)
  const left = Object.entries(adapted).map(([key, value]) => `${key} ${shown(value)}`)
  if (left.length > 0) note(`note: left out, because the run adapts them to the model: ${left.join(', ')}`)
  const values = { ...options, ...(evaluate !== undefined && { evaluate }) }
  return { document: absolutePaths(values, QUANTIZE_CONFIG, process.cwd()), text: undefined }
}

async function runInspect({ options }: InspectCommand, calling: RunOptions): Promise<Outcome> {
  const report = await inspect(options, calling)
  return { document: report, text: formatInspection(report) }
}

async function runEvaluate({ options, limits }: EvaluateCommand, calling: RunOptions): Promise<Outcome> {
  const report = await evaluate(options, calling)
  const failure = passedLimits(report, limits)
  return { document: report, text: formatEvaluation(report), ...(failure && { failure }) }
}

/** Columns of the terminal that stdout is. */
const terminalWidth = (): number | undefined =>
  process.stdout.isTTY && process.stdout.columns > 0 ? process.stdout.columns : undefined

/** One text goes to stdout as it is written; a comparison and a document when they are complete. */
async function runGenerate(
  { options, json }: GenerateCommand,
  calling: RunOptions & { readonly signal: AbortSignal },
  status: StatusLine,
): Promise<Outcome> {
  const prompt = options.prompt === '-' ? await readStdin(calling.signal) : options.prompt
  const streams = !json && options.compare === undefined
  let printing = Promise.resolve()
  const onProgress: RunOptions['onProgress'] = event => {
    if (event.type !== 'text') return calling.onProgress?.(event)
    if (!streams) return
    status.stop() // two writers on one terminal would mix
    printing = printing.then(() => printResult(event.text))
    // A failure is thrown below.
    printing.catch(() => {})
  }
  const report = await generate({ ...options, prompt }, { ...calling, onProgress })
  await printing
  for (const note of report.notes ?? []) status.note(`note: ${note}`)
  if (!streams) return { document: report, text: report.compare ? formatComparison(report, terminalWidth()) : '' }
  await printResult('\n')
  status.line(writtenLine(report))
  return { document: report, text: undefined }
}

/** A machine on which onnxruntime itself does not load is a failure: nothing else works then. */
async function runDoctor(
  { install, into }: DoctorCommand,
  { say, note }: StatusLine,
  signal: AbortSignal,
): Promise<Outcome> {
  checkRuntime()
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
export async function run(invocation: Invocation, status: StatusLine, signal: AbortSignal): Promise<Outcome> {
  const verbose = invocation.command === 'quantize' && invocation.verbose
  const calling = { onProgress: showProgress(status, { verbose }), signal }
  switch (invocation.command) {
    case 'quantize':
      return withReport(invocation.report, status, () =>
        logged(invocation.log, calling, each => runQuantize(invocation, each)),
      )
    case 'inspect':
      status.say(`reading ${invocation.options.model}`)
      return runInspect(invocation, calling)
    case 'evaluate':
      return withReport(invocation.report, status, () => runEvaluate(invocation, calling))
    case 'generate':
      return runGenerate(invocation, calling, status)
    case 'config':
      return printConfig(invocation, status)
    case 'doctor':
      return runDoctor(invocation, status, signal)
  }
}
