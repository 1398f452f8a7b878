/** @file The method from end to end, block after block. The place to start reading. */

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { ActivationStore } from '../calibration/activation-store.ts'
import { messageOf, QuantError } from '../errors.ts'
import { Graph } from '../graph/ir.ts'
import { extract } from '../graph/extract.ts'
import { saveModel } from '../graph/save.ts'
import { staticShape } from '../graph/shape.ts'
import { readElements, tensorOf } from '../graph/tensor.ts'
import type { WeightQuantizer } from '../kernels/qparams.ts'
import { compile, type SessionOptions } from '../kernels/session.ts'
import { type Analysis, analyze } from './analyze.ts'
import type { Block } from './blocks.ts'
import { type Calibration, type CalibrationOptions, calibrate } from './calibrate.ts'
import type { BlockPlan } from './clipping.ts'
import { type ExportedLinear, exportLinears } from './export.ts'
import { copyCompanions, modelSizeBytes, type OutputPlan, planOutput } from './output.ts'
import { foldBlock, learnBlock, readWeights, runBlock } from './quantize-block.ts'
import { type BlockReport, epochMeans, type OnEvent, type QuantizeReport } from './report.ts'
import { type QuantScheme, schemeName } from './scheme.ts'

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
  readonly accuracyLevel: 0 | 4
  readonly session: SessionOptions
  readonly onEvent?: OnEvent
  /** Ends the run between two programs. */
  readonly signal?: AbortSignal
}

/** How each linear of a block is quantized: groups as asked, scales in the type the weight is stored in. */
export function planBlock(block: Block, { weights }: QuantScheme): BlockPlan {
  const quantizers = block.linears.map((linear): [typeof linear, WeightQuantizer] => [
    linear,
    {
      bits: weights.bits,
      group: weights.group ?? linear.inFeatures,
      symmetric: weights.symmetric,
      scaleDtype: linear.weight.tensor!.dtype === 'float16' ? 'float16' : 'float32',
    },
  ])
  return { block, quantizers: new Map(quantizers) }
}

/** Hidden states of the calibration tokens where the first block begins. */
export async function embed(
  analysis: Analysis,
  { tokens, samples, seqLen }: Calibration,
  to: ActivationStore,
): Promise<void> {
  const { working, folder, io, blocks } = analysis
  const graph = new Graph('prefix')
  const { input } = blocks[0]!
  graph.inputs = working.inputs
  graph.outputs = [input]
  graph.nodes = extract(working, working.inputs, [input])
  const read = new Set(graph.nodes.flatMap(node => node.inputs))
  graph.initializers = working.initializers.filter(value => read.has(value))
  const session = await compile(graph, { dataDir: folder, optimization: 'disabled' })
  try {
    for (let i = 0; i < samples; i++) {
      const ids = tensorOf('int64', [1, seqLen], tokens.subarray(i * seqLen, (i + 1) * seqLen))
      const hidden = await session.run({ [io.inputIds.name]: ids })
      to.write(i, readElements(hidden[input.name]!) as Float32Array)
    }
  } finally {
    await session.release()
  }
}

/** Float and quantized hidden states between two blocks, on disk. */
interface Streams {
  readonly float: ActivationStore
  readonly quantized: ActivationStore
}

class Quantizer {
  readonly exported: ExportedLinear[] = []
  readonly reports: BlockReport[] = []
  private readonly options: QuantizeOptions
  private readonly analysis: Analysis

  constructor(options: QuantizeOptions, analysis: Analysis) {
    this.options = options
    this.analysis = analysis
  }

  /** Quantizes one block; `streams` hold its inputs before and its outputs after. */
  async block(block: Block, streams: Streams | undefined): Promise<void> {
    const started = performance.now()
    const { scheme, session, epochs, learningRate, onEvent, signal } = this.options
    const { blocks } = this.analysis
    const progress =
      (phase: 'targets' | 'learning' | 'rounding' | 'outputs') => (done: number, total: number, loss?: number) => {
        signal?.throwIfAborted()
        onEvent?.({ type: 'block', index: block.index, blocks: blocks.length, phase, done, total, loss })
      }
    const plan = planBlock(block, scheme)
    const weights = readWeights(block)
    let learned: Awaited<ReturnType<typeof learnBlock>> | undefined
    if (streams) {
      const { float, quantized } = streams
      await runBlock(block, weights, { from: float, to: float }, session, progress('targets'))
      const settings = { epochs, learningRate, samples: float.samples, session, onProgress: progress('learning') }
      learned = await learnBlock(plan, { x: quantized, y: float }, weights, settings)
    }
    progress('rounding')(0, 1)
    const folded = await foldBlock(plan, weights, learned, session)
    if (streams && block !== blocks.at(-1)) {
      const { quantized } = streams
      await runBlock(block, folded.weights, { from: quantized, to: quantized }, session, progress('outputs'))
    }
    block.linears.forEach((linear, i) => {
      const { origin, inFeatures, outFeatures } = linear
      this.exported.push({ origin, packed: folded.packed[i]!, inFeatures, outFeatures })
    })
    const report: BlockReport = {
      index: block.index,
      linears: block.linears.map(({ name }) => name),
      ...(learned && streams && epochMeans(learned.losses, streams.float.samples)),
      ...(learned?.divergedAt !== undefined && { divergedAt: learned.divergedAt }),
      elapsedMs: Math.round(performance.now() - started),
    }
    this.reports.push(report)
    onEvent?.({ type: 'blockDone', report })
  }
}

/** Runs all blocks; activations live in a temporary folder beside the output. */
async function quantizeBlocks(
  options: QuantizeOptions,
  analysis: Analysis,
  output: OutputPlan,
): Promise<{ quantizer: Quantizer; notes: readonly string[] }> {
  const quantizer = new Quantizer(options, analysis)
  if (!options.lwc) {
    for (const block of analysis.blocks) await quantizer.block(block, undefined)
    return { quantizer, notes: [] }
  }
  const calibration = await calibrate(analysis, options)
  const folder = workFolder(dirname(output.path))
  const stores: ActivationStore[] = []
  try {
    const { samples } = calibration
    const dims = staticShape(analysis.blocks[0]!.input)
    const [float, quantized] = ['float', 'quantized'].map(() => {
      const store = new ActivationStore(folder, samples, dims)
      stores.push(store)
      return store
    }) as [ActivationStore, ActivationStore]
    await embed(analysis, calibration, float)
    for (let i = 0; i < samples; i++) quantized.write(i, float.read(i, 1))
    for (const block of analysis.blocks) await quantizer.block(block, { float, quantized })
    return { quantizer, notes: calibration.notes }
  } finally {
    for (const store of stores) store.close()
    rmSync(folder, { recursive: true, force: true })
  }
}

function workFolder(parent: string): string {
  try {
    mkdirSync(parent, { recursive: true })
    return mkdtempSync(join(parent, '.omniquant-'))
  } catch (error) {
    throw new QuantError('E_OUTPUT', `cannot write to ${parent}: ${messageOf(error)}`, 'Choose another folder with -o.')
  }
}

/** A line when groups are wider than some weights: those have one scale per output. */
function groupNotes({ blocks }: Analysis, { weights }: QuantScheme): string[] {
  const { group } = weights
  if (group === undefined) return []
  const narrow = new Set(
    blocks.flatMap(block => block.linears.map(({ inFeatures }) => inFeatures)).filter(K => K < group),
  )
  if (narrow.size === 0) return []
  return [
    `groups of ${group} are wider than inputs of ${[...narrow].join(', ')}: those weights have one scale per output`,
  ]
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
    notes: [...groupNotes(analysis, scheme), ...notes],
    sizeBefore,
    sizeAfter: saved.sizeBytes,
    elapsedMs: Math.round(performance.now() - started),
  }
}
