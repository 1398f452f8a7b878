/** @file The command line: its grammar, its one catch and its exit code. The only file that imports commander. */

import { createRequire } from 'node:module'
import { Command, CommanderError } from 'commander'
import type { QuantError } from '../errors.ts'
import { usageError } from './flag-values.ts'
import { endByHangup, hasTerminal, ignoreHangup } from './hangup.ts'
import {
  evaluateCommand,
  type EvaluateFlags,
  inspectCommand,
  type Invocation,
  quantizeCommand,
  type QuantizeFlags,
  rewriteSchemeFlags,
} from './options.ts'
import { type Ending, endingOf, failureOf } from './outcome.ts'
import { keepStreamErrors, printMessages, printResult } from './print.ts'
import type { StatusLine } from './progress.ts'

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string }

const EXAMPLES = `
Examples:
  omniquant inspect model.onnx                          what would be quantized, and how small it gets
  omniquant quantize model.onnx --w4a16                 4-bit weights; the model writes its calibration text
  omniquant quantize my-llama/ --w4a16 -o my-llama-w4/  a folder in, a folder out, tokenizer included
  omniquant quantize my-llama/ --w3a16g64 --calib text.txt --evaluate other.txt
  omniquant quantize my-llama/ --wbits 2 --group 32 --preset paper --threads 8
  omniquant evaluate my-llama-w4/ --text other.txt --against my-llama/

A MODEL is an .onnx file or a folder with one. Results go to stdout, progress and errors to stderr.
Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.`

/** What the arguments ask for: a command, or a text that commander has written itself (help, version). */
type Parsed = Invocation | { readonly command: 'print'; readonly text: string }

/** For flags that may be given several times. */
const collect = (text: string, before: readonly string[] | undefined): string[] => [...(before ?? []), text]

function addQuantize(program: Command, found: (invocation: Invocation) => void): void {
  program
    .command('quantize')
    .summary('quantize a model')
    .description('Learn the quantization of a model block by block and write the quantized model.')
    .argument('<model>', 'an .onnx file, or a folder with one')
    .option(
      '-o, --output <path>',
      'file ending in .onnx, or folder (default: beside the model, named after the scheme)',
    )
    .optionsGroup('What to make:')
    .option(
      '--scheme <name>',
      'bits of weights and activations, also as a flag: --w4a16, --w3a16, --w2a16, --w8a16, --w4a16g64',
      collect,
    )
    .option('--wbits <n>', 'bits of the weights, 2 to 8, instead of a scheme')
    .option('--abits <n>', 'bits of the activations (default: 16, not quantized)')
    .option('--group <n>', 'weights that share a scale: 16, 32, 64, 128 or 256 (default: 128)')
    .option('--per-channel', 'one scale per output instead of groups')
    .option('--symmetric', 'no zero points of weights: smaller, less exact')
    .option('--symmetric-activations', 'no zero points of activations')
    .option(
      '--format <name>',
      'of linears with quantized activations: integer (fast on CPUs) or portable (default: integer)',
    )
    .option('--ignore <pattern>', 'leave linears as they are: down_proj, layers.0, *.o_proj (repeatable)', collect)
    .option(
      '--override <pattern:wN>',
      'other bits for some linears: down_proj:w8, layers.0:w8g64sym (repeatable)',
      collect,
    )
    .option('--overrides <file>', 'the same from a JSON file: {"down_proj": "w8g64"}')
    .option('--lm-head <bits>', 'also quantize lm_head, rounded to nearest: 2, 4 or 8 bits (default: float)')
    .option('--embedding <bits>', 'also quantize the embedding; in the bits of a tied lm_head it is stored once')
    .option('--accuracy-level <n>', '0 computes in float32, 4 with 8-bit activations: faster, less exact (default: 0)')
    .optionsGroup('How to learn it:')
    .option(
      '--preset <name>',
      'fast (32 x 256 tokens, 4 epochs), default (128 x 512, 4; less for large models) or paper (128 x 2048, 20)',
    )
    .option(
      '--calib <file>',
      'calibration text (.txt, .md, .jsonl) or token ids (.npy, .jsonl); else the model writes one',
    )
    .option('--samples <n>', 'calibration samples')
    .option('--seq-len <n>', 'tokens per sample')
    .option('--epochs <n>', 'times all samples are gone through')
    .option('--lr <x>', 'learning rate (default: by preset, 0.1, 0.05, 0.01)')
    .option(
      '--schedule <name>',
      'how it goes on: cosine (falls to 0) or constant (default: by preset, paper: constant)',
    )
    .option('--optimizer <name>', 'adamw or stable-spam (default: adamw)')
    .option('--no-lwc', 'do not learn the clipping of weights; with nothing else to learn, round to nearest')
    .option('--let', 'learn equivalent transformations too (default where activations are quantized)')
    .option('--no-let', 'do not')
    .option('--keep-cache', 'make no transformation that scales the KV cache, so that other files can read it')
    .option('--let-lr <x>', 'learning rate of transformations (default: half of --lr)')
    .option('--alpha <x>', 'share of the difficulty that starts in the weights, 0 to 1 (default: 0.5)')
    .option('--aug-loss', 'aim between the float outputs for float and for quantized inputs')
    .option('--save-params <file>', 'also write what was learned (.safetensors)')
    .option('--params <file>', 'use what was learned before instead of learning')
    .option('--seed <n>', 'choice of samples (default: 0)')
    .optionsGroup('Running:')
    .option('--evaluate <file>', 'perplexity of both models on a text or token ids')
    .option('--threads <n>', 'threads (default: as many as cores)')
    .option('--time-budget <time>', 'learn from fewer samples so that it ends within 2h, 90m, ...')
    .option(
      '--work-dir <path>',
      'folder in which the run makes its own for finished blocks (default: beside the output)',
    )
    .option('--fresh', 'start over, instead of going on where an earlier run ended')
    .option('--json', 'one JSON document on stdout')
    .option('--quiet', 'say nothing but errors')
    .action((model: string, flags: QuantizeFlags) => found(quantizeCommand(model, flags)))
}

function addInspect(program: Command, found: (invocation: Invocation) => void): void {
  program
    .command('inspect')
    .summary('show what would be quantized')
    .description('Show what a model file holds, which weights would be quantized, and what is skipped and why.')
    .argument('<model>', 'an .onnx file, or a folder with one')
    .option('--seq-len <n>', 'tokens per sequence to look at the graph with')
    .option('--json', 'one JSON document on stdout')
    .action((model: string, flags: { seqLen?: string; json?: boolean }) => found(inspectCommand(model, flags)))
}

function addEvaluate(program: Command, found: (invocation: Invocation) => void): void {
  program
    .command('evaluate')
    .summary('measure perplexity, size and speed')
    .description('Measure the perplexity, size and speed of a model, float or quantized.')
    .argument('<model>', 'an .onnx file, or a folder with one')
    .argument('[text]', 'the same as --text')
    .option('--text <file>', 'text (.txt, .md, .jsonl) or token ids (.npy, .jsonl)')
    .option('--against <model>', 'another model to measure on the same tokens, such as the float one')
    .option('--max-perplexity <x>', 'fail (exit code 1) when the perplexity is above')
    .option('--seq-len <n>', "tokens per window (default: 256, or the model's positions if fewer)")
    .option('--windows <n>', 'only the first so many windows')
    .option('--threads <n>', 'threads (default: as many as cores)')
    .option('--json', 'one JSON document on stdout')
    .option('--quiet', 'say nothing but errors')
    .action((model: string, text: string | undefined, flags: EvaluateFlags) =>
      found(evaluateCommand(model, text, flags)),
    )
}

/** "error: unknown option '--grup'\n(Did you mean --group?)" -> message and hint. */
function fromCommander({ message }: CommanderError): QuantError {
  const [what, suggestion] = message.replace(/^error: /, '').split('\n')
  return usageError(what!, suggestion?.replace(/^\((.*)\)$/, '$1') ?? '`omniquant --help` shows what there is.')
}

/** What `argv` (without node and script) asks for. Reads no files, runs nothing. @throws E_USAGE, E_SCHEME */
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
  try {
    program.parse(rewriteSchemeFlags(argv), { from: 'user' })
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    if (error.code === 'commander.help') throw usageError('which command?', '`omniquant --help` shows what there is.')
    if (error.exitCode !== 0) throw fromCommander(error)
  }
  return invocation ?? { command: 'print', text }
}

async function perform(argv: readonly string[], debug: boolean): Promise<Ending> {
  let status: StatusLine | undefined
  try {
    const invocation = parseCommandLine(argv)
    if (invocation.command === 'print') return { stdout: invocation.text, stderr: '', exitCode: 0 }
    // Loaded only now, so that help and usage errors come at once.
    const [{ openStatusLine, SILENCE }, { runInEngine }] = await Promise.all([
      import('./progress.ts'),
      import('./engine.ts'),
    ])
    status = invocation.quiet ? SILENCE : openStatusLine()
    return endingOf(await runInEngine(invocation, status), invocation, debug)
  } catch (error) {
    return failureOf(error, { json: argv.includes('--json') }, debug)
  } finally {
    status?.stop()
  }
}

/** Prints what a command ended with. @returns the exit code. A result that cannot be written is an error, but never hides an earlier one. */
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
