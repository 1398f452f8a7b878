/** @file The command line: its grammar, its one catch and its exit code. The only file that imports commander. */

import { createRequire } from 'node:module'
import { Argument, Command, CommanderError, Option } from 'commander'
import { QuantError, usageError } from '../errors.ts'
import { completionScript, SHELLS } from './completion.ts'
import { EVALUATE_CONFIG, QUANTIZE_CONFIG, withConfig } from './config-file.ts'
import type { FlagRow } from './flag-row.ts'
import { DRY_RUN_FLAGS, valuesOf } from './flags.ts'
import { QUANTIZE_FLAGS } from './quantize-flags.ts'
import { endByHangup, hasTerminal, ignoreHangup } from './hangup.ts'
import { type Interrupts, watchInterrupts } from './interrupts.ts'
import {
  doctorCommand,
  type EvaluateCommand,
  evaluateCommand,
  evaluateValues,
  generateCommand,
  inspectCommand,
  type Invocation,
  type QuantizeCommand,
  quantizeCommand,
  rewriteFlags,
  type Values,
} from './options.ts'
import { type Ending, endingOf, failureOf } from './outcome.ts'
import { keepStreamErrors, printMessages, printResult } from './print.ts'
import type { StatusLine } from './progress.ts'
import { DOCTOR_FLAGS, EVALUATE_FLAGS, GENERATE_FLAGS } from './read-flags.ts'

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string }

const EXAMPLES = `
Examples:
  omniquant inspect model.onnx                          what would be quantized, and how small it gets
  omniquant quantize model.onnx --w4a16                 4-bit weights; the model writes its calibration text
  omniquant quantize my-llama/ --w4a16 -o my-llama-w4/  a folder in, a folder out, tokenizer included
  omniquant quantize my-llama/ --w4a16g64 --calib text.txt --evaluate other.txt
  omniquant quantize my-llama/ --wbits 2 --group 32 --preset paper --threads 8
  omniquant evaluate my-llama-w4/ --text other.txt --against my-llama/
  omniquant generate my-llama-w4/ "Once upon a time" --compare my-llama/
  omniquant doctor                                      which devices work here, and what the others lack
  omniquant completion bash                             a script that completes commands in bash; also zsh, fish

A MODEL is an .onnx file or a folder with one. Results go to stdout, progress and errors to stderr.
Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted by Ctrl-C, 143 by kill.`

/** Meaning of the arguments: a command, or a text that commander has written itself (help, version). */
type Parsed = Invocation | { readonly command: 'print'; readonly text: string }

/** Texts of an option that may be given several times. */
const collect = (text: string, before: readonly string[] | undefined): string[] => [...(before ?? []), text]

/** Options of the commands, for completion. */
const rowsOf = new WeakMap<Command, readonly FlagRow[]>()

/** Declares the options of a table. @returns the fields that were typed, by key, once the command line is parsed. */
function addOptions(command: Command, rows: readonly FlagRow[]): () => Record<string, unknown> {
  rowsOf.set(command, rows)
  const options = rows.map(row => {
    if (row.group) command.optionsGroup(row.group)
    const option = new Option(row.flags, row.help)
    command.addOption(row.repeatable ? option.argParser(collect) : option)
    return [row, option.attributeName()] as const
  })
  return () => {
    const typed = options.filter(([, name]) => command.getOptionValueSource(name) === 'cli')
    return valuesOf(typed.map(([row, name]) => [row, command.getOptionValue(name) as unknown] as const))
  }
}

/** The command that values say, or its configuration where that is asked for. @throws E_USAGE without a model; what `make` throws. */
function runOrPrint(
  command: Command,
  { model, printConfig, ...values }: Values,
  make: (model: string, values: Values) => QuantizeCommand | EvaluateCommand,
): Invocation {
  if (model === undefined) command.error("error: missing required argument 'model'")
  const made = make(model as string, values)
  return printConfig ? { command: 'config', of: made, json: true, quiet: false } : made
}

function addQuantize(program: Command, found: (invocation: Invocation) => void): void {
  const command = program
    .command('quantize')
    .summary('quantize a model')
    .description('Learn the quantization of a model block by block and write the quantized model.')
    .argument('[model]', 'an .onnx file, or a folder with one; --config may name it too')
  const values = addOptions(command, QUANTIZE_FLAGS)
  command.action((model: string | undefined) => {
    const typed = { ...values(), ...(model !== undefined && { model }) }
    found(withConfig(typed, QUANTIZE_CONFIG, all => runOrPrint(command, all, quantizeCommand)))
  })
}

function addInspect(program: Command, found: (invocation: Invocation) => void): void {
  const command = program
    .command('inspect')
    .summary('show what would be quantized')
    .description('Show what a model file holds, which weights would be quantized, and what is skipped and why.')
    .argument('<model>', 'an .onnx file, or a folder with one')
  const values = addOptions(command, DRY_RUN_FLAGS)
  command.action((model: string) => found(inspectCommand(model, values())))
}

function addEvaluate(program: Command, found: (invocation: Invocation) => void): void {
  const command = program
    .command('evaluate')
    .summary('measure perplexity, size, speed and memory')
    .description(
      'Measure perplexity, size, speed and memory of models, float or quantized, and how far they are from another.',
    )
    .argument('[model...]', '.onnx files, or folders with one; behind them perhaps the text, the same as --text')
  const values = addOptions(command, EVALUATE_FLAGS)
  command.action((paths: string[]) => {
    const typed = evaluateValues(paths, values())
    found(withConfig(typed, EVALUATE_CONFIG, all => runOrPrint(command, all, evaluateCommand)))
  })
}

function addGenerate(program: Command, found: (invocation: Invocation) => void): void {
  const command = program
    .command('generate')
    .summary('let a model continue a prompt')
    .description('Let a model, float or quantized, continue a prompt.')
    .argument('<model>', 'an .onnx file, or a folder with one')
    .argument('<prompt>', 'text to continue; "-" reads it from stdin')
  const values = addOptions(command, GENERATE_FLAGS)
  command.action((model: string, prompt: string) => found(generateCommand(model, prompt, values())))
}

function addDoctor(program: Command, found: (invocation: Invocation) => void): void {
  const command = program
    .command('doctor')
    .summary('show which devices work here, and what the others lack')
    .description('Try the devices that programs can run on. Show what is missing, by file name, and how to mend it.')
  const values = addOptions(command, DOCTOR_FLAGS)
  command.action(() => found(doctorCommand(values())))
}

function addCompletion(program: Command, print: (text: string) => void): void {
  program
    .command('completion')
    .summary('print a script that lets a shell complete commands')
    .description('Print a script that lets a shell complete commands, options and their values (docs/config.md).')
    .addArgument(new Argument('<shell>', 'shell to complete in').choices(SHELLS))
    .action((shell: string) => {
      const commands = program.commands.map(command => ({
        name: command.name(),
        summary: command.summary(),
        rows: rowsOf.get(command) ?? [],
        takesFiles: command.registeredArguments.some(({ argChoices }) => argChoices === undefined),
        words: command.registeredArguments.flatMap(({ argChoices = [] }) => argChoices),
      }))
      print(completionScript(shell, commands))
    })
}

/**
 * "error: unknown option '--grup'\n(Did you mean --group?)" -> message and hint. @param help command that shows what there is.
 */
function fromCommander({ message }: CommanderError, help: string): QuantError {
  const [what, suggestion] = message.replace(/^error: /, '').split('\n')
  return usageError(what!, suggestion?.replace(/^\((.*)\)$/, '$1') ?? `\`${help}\` shows what there is.`)
}

/** @throws E_FILE_NOT_FOUND in a folder that was removed, where no relative path means anything. */
function checkCurrentFolder(): void {
  try {
    process.cwd()
  } catch {
    throw new QuantError('E_FILE_NOT_FOUND', 'the current folder was removed', 'Go to one that exists, with `cd`.')
  }
}

/**
 * The command of `argv` (without node and script). Reads no file but a configuration, runs nothing.
 * @throws E_USAGE, E_SCHEME; E_FILE_NOT_FOUND for a configuration.
 */
export function parseCommandLine(argv: readonly string[]): Parsed {
  let invocation: Invocation | undefined
  let text = ''
  const found = (result: Invocation) => {
    invocation = result
  }
  const program = new Command('omniquant')
    .description('Quantizes decoder language models, ONNX in and ONNX out, by learning how.')
    .version(version)
    .exitOverride()
    .configureOutput({
      writeOut: written => {
        text += written
      },
      writeErr: () => {}, // the error itself carries the words
    })
    .addHelpText('after', EXAMPLES)
  addQuantize(program, found)
  addInspect(program, found)
  addEvaluate(program, found)
  addGenerate(program, found)
  addDoctor(program, found)
  addCompletion(program, script => {
    text = script
  })
  try {
    program.parse(rewriteFlags(argv), { from: 'user' })
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    if (error.exitCode === 0) return { command: 'print', text }
    const command = program.commands.find(each => each.name() === argv[0])
    const help = `omniquant ${command ? `${command.name()} ` : ''}--help`
    throw error.code === 'commander.help'
      ? usageError('which command?', `\`${help}\` shows what there is.`)
      : fromCommander(error, help)
  }
  return invocation ?? { command: 'print', text }
}

async function perform(argv: readonly string[], debug: boolean): Promise<Ending> {
  let status: StatusLine | undefined
  let interrupts: Interrupts | undefined
  try {
    const invocation = parseCommandLine(argv)
    if (invocation.command === 'print') return { stdout: invocation.text, stderr: '', exitCode: 0 }
    checkCurrentFolder()
    // Loaded only now, so that help and usage errors come at once.
    const [{ openStatusLine, SILENCE }, { run }] = await Promise.all([import('./progress.ts'), import('./commands.ts')])
    status = invocation.quiet ? SILENCE : openStatusLine()
    interrupts = watchInterrupts()
    return endingOf(await run(invocation, status, interrupts.signal), invocation, debug)
  } catch (error) {
    return failureOf(error, { json: argv.includes('--json') }, debug, interrupts?.exitCode())
  } finally {
    interrupts?.release()
    status?.stop()
  }
}

/** Prints the ending of a command. A result that cannot be written is an error, but never hides an earlier one. @returns the exit code. */
async function tell({ stdout, stderr, exitCode }: Ending, debug: boolean): Promise<number> {
  let lost: Ending | undefined
  try {
    await printResult(stdout)
  } catch (error) {
    lost = failureOf(error, { json: false }, debug)
  }
  await printMessages(stderr)
  if (lost === undefined || exitCode !== 0) return exitCode
  await printMessages(lost.stderr)
  return lost.exitCode
}

/** Runs the command line; the result is the exit code. */
export async function main(argv: readonly string[]): Promise<number> {
  const attended = hasTerminal()
  if (!attended) ignoreHangup()
  keepStreamErrors()
  const debug = process.env['OMNIQUANT_DEBUG'] === '1'
  const exitCode = await tell(await perform(argv, debug), debug)
  if (attended && !hasTerminal()) endByHangup()
  return exitCode
}
