/** @file The method from end to end, block after block. The place to start reading. */

import { mkdirSync, mkdtempSync, readdirSync, rmdirSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { ActivationStore } from '../calibration/activation-store.ts'
import { messageOf, QuantError } from '../errors.ts'
import { saveModel } from '../graph/save.ts'
import { staticShape } from '../graph/shape.ts'
import type { SessionOptions, Tensors } from '../kernels/session.ts'
import { type Analysis, analyze } from './analyze.ts'
import type { Block } from './blocks.ts'
import { type CalibrationOptions, calibrate } from './calibrate.ts'
import { embed } from './embed.ts'
import { type ExportedLinear, exportLinears } from './export.ts'
import { copyCompanions, modelSizeBytes, type OutputPlan, planOutput } from './output.ts'
import { type BlockPlan, groupNotes, planBlock } from './plan.ts'
import { foldBlock, type Folded, learnBlock, readWeights, runBlock } from './quantize-block.ts'
import type { BlockReport, OnEvent, QuantizeEvent, QuantizeReport } from './report.ts'
import { type QuantScheme, schemeName } from './scheme.ts'
import type { Schedule } from './train-block.ts'

export interface QuantizeOptions extends CalibrationOptions {
  /** An .onnx file, or a folder with one. */
  readonly model: string
  /** A folder, or a path ending in .onnx; by default `<name>-<scheme>.onnx` beside the model. */
  readonly output?: string
  readonly scheme: QuantScheme
  /** Learn the clipping; false rounds to nearest, which needs no calibration. */
  readonly lwc: boolean
  readonly epochs: number
  readonly learningRate: number
  readonly schedule: Schedule
  readonly accuracyLevel: 0 | 4
  readonly session: SessionOptions
  readonly onEvent?: OnEvent
  /** Ends the run between two programs. */
  readonly signal?: AbortSignal
}

/** Hidden states between two blocks, on disk: of the float model, of the quantized one, and room for the latter's next. */
interface Streams {
  readonly float: ActivationStore
  quantized: ActivationStore
  spare: ActivationStore
}

type Phase = (QuantizeEvent & { type: 'block' })['phase']

class Quantizer {
  readonly exported: ExportedLinear[] = []
  readonly reports: BlockReport[] = []
  private readonly options: QuantizeOptions
  private readonly blocks: readonly Block[]

  constructor(options: QuantizeOptions, blocks: readonly Block[]) {
    this.options = options
    this.blocks = blocks
  }

  private progress(block: Block, phase: Phase): (done: number, total: number, loss?: number) => void {
    const { onEvent, signal } = this.options
    return (done, total, loss) => {
      signal?.throwIfAborted()
      onEvent?.({ type: 'block', index: block.index, blocks: this.blocks.length, phase, done, total, loss })
    }
  }

  /** Quantizes one block; `streams` hold its inputs before and its outputs after. Without them: round to nearest. */
  async block(block: Block, streams: Streams | undefined): Promise<void> {
    const started = performance.now()
    const plan = planBlock(block, this.options.scheme)
    const weights = readWeights(block)
    this.progress(block, 'rounding')(0, 1)
    const rounded = await foldBlock(plan, weights, undefined, this.options.session)
    const { folded, ...learning } = streams ? await this.learn(plan, weights, rounded, streams) : { folded: rounded }
    block.linears.forEach(({ origin, inFeatures, outFeatures }, i) => {
      this.exported.push({ origin, packed: folded.packed[i]!, inFeatures, outFeatures })
    })
    const report: BlockReport = {
      index: block.index,
      linears: block.linears.map(({ name }) => name),
      ...learning,
      elapsedMs: Math.round(performance.now() - started),
    }
    this.reports.push(report)
    this.options.onEvent?.({ type: 'blockDone', report })
  }

  /** Learns the block's clipping, and keeps it if it beats rounding to nearest; moves the streams past the block. */
  private async learn(
    plan: BlockPlan,
    weights: Tensors,
    rounded: Folded,
    streams: Streams,
  ): Promise<{ folded: Folded } & Omit<BlockReport, 'index' | 'linears' | 'elapsedMs'>> {
    const { session, epochs, learningRate, schedule } = this.options
    const { block } = plan
    const { float, quantized, spare } = streams
    const progress = (phase: Phase) => this.progress(block, phase)
    await runBlock(block, weights, { from: float, to: float }, session, progress('targets'))
    const { samples } = float
    const learned = await learnBlock(plan, { x: quantized, y: float }, weights, {
      ...{ epochs, learningRate, schedule, samples, session },
      onProgress: progress('learning'),
    })
    const folded = await foldBlock(plan, weights, learned, session)
    const run = (candidate: Folded, to?: ActivationStore) =>
      runBlock(block, candidate.weights, { from: quantized, to, target: float }, session, progress('outputs'))
    const roundedLoss = await run(rounded)
    const learnedLoss = await run(folded, spare)
    const kept = learnedLoss < roundedLoss ? 'learned' : 'rounded'
    if (kept === 'rounded') await run(rounded, spare)
    streams.quantized = spare
    streams.spare = quantized
    const { divergedAt } = learned
    const losses = { roundedLoss, learnedLoss, kept, ...(divergedAt !== undefined && { divergedAt }) } as const
    return { folded: kept === 'learned' ? folded : rounded, ...losses }
  }
}

/** Runs all blocks; activations live in a temporary folder beside the output. */
async function quantizeBlocks(
  options: QuantizeOptions,
  analysis: Analysis,
  output: OutputPlan,
): Promise<{ quantizer: Quantizer; notes: readonly string[] }> {
  const { blocks } = analysis
  const quantizer = new Quantizer(options, blocks)
  if (!options.lwc) {
    for (const block of blocks) await quantizer.block(block, undefined)
    return { quantizer, notes: [] }
  }
  const calibration = await calibrate(analysis, options)
  const folder = workFolder(dirname(output.path))
  const stores: ActivationStore[] = []
  try {
    const { samples, notes } = calibration
    const open = () => {
      stores.push(new ActivationStore(folder.path, samples, staticShape(blocks[0]!.input)))
      return stores.at(-1)!
    }
    const streams: Streams = { float: open(), quantized: open(), spare: open() }
    await embed(analysis, calibration, streams.float)
    for (let i = 0; i < samples; i++) streams.quantized.write(i, streams.float.read(i, 1))
    for (const block of blocks) await quantizer.block(block, streams)
    return { quantizer, notes }
  } finally {
    for (const store of stores) store.close()
    folder.remove()
  }
}

/** A temporary folder beside the output; `remove` takes away folders made for it as well, as long as they are empty. */
function workFolder(parent: string): { path: string; remove: () => void } {
  try {
    const made = mkdirSync(parent, { recursive: true })
    const path = mkdtempSync(join(parent, '.omniquant-'))
    const remove = () => {
      rmSync(path, { recursive: true, force: true })
      if (made !== undefined) removeEmpty(parent, made)
    }
    return { path, remove }
  } catch (error) {
    throw new QuantError('E_OUTPUT', `cannot write to ${parent}: ${messageOf(error)}`, 'Choose another folder with -o.')
  }
}

/** Removes `folder` and the empty folders above it, up to and including `last`. */
function removeEmpty(folder: string, last: string): void {
  for (let current = folder; ; current = dirname(current)) {
    if (readdirSync(current).length > 0) return
    rmdirSync(current)
    if (current === last) return
  }
}

/**
 * Quantizes a model file into another one.
 * @throws QuantError; the AbortSignal's reason when aborted. Nothing is left under the output's name then.
 */
export async function quantizeModel(options: QuantizeOptions): Promise<QuantizeReport> {
  const started = performance.now()
  const { scheme, onEvent } = options
  const analysis = await analyze(options.model, options.seqLen, options.capSeqLen)
  const { model, blocks } = analysis
  const output = planOutput(model.path!, options.output, schemeName(scheme))
  const sizeBefore = modelSizeBytes(model)
  onEvent?.({ type: 'analyzed', blocks: blocks.length, linears: blocks.flatMap(({ linears }) => linears).length })
  const { quantizer, notes } = await quantizeBlocks(options, analysis, output)
  onEvent?.({ type: 'saving' })
  exportLinears(model, quantizer.exported, { accuracyLevel: options.accuracyLevel })
  const saved = await saveModel(model, output.path)
  copyCompanions(output)
  return {
    model: model.path!,
    output: output.path,
    files: saved.files,
    scheme: schemeName(scheme),
    blocks: quantizer.reports,
    skipped: blocks.flatMap(block =>
      block.skipped.map(({ node, reason }) => ({ node: node.origin?.name ?? node.name, reason })),
    ),
    notes: [...groupNotes(blocks, scheme), ...notes],
    sizeBefore,
    sizeAfter: saved.sizeBytes,
    elapsedMs: Math.round(performance.now() - started),
  }
}
