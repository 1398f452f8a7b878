/** @file Contents of a model file, and the weights in it that would be quantized. Reads headers, no weights; writes nothing. */

import { QuantError } from '../errors.ts'
import { dependents } from '../graph/dependencies.ts'
import { type DType, isFloat } from '../graph/dtype.ts'
import { type Dim, type Model, type Node, tensorsOf, type Value } from '../graph/ir.ts'
import { loadModel } from '../graph/onnx-file/load.ts'
import { modelFiles, modelSizeBytes } from '../graph/onnx-file/model-files.ts'
import { isRefused, type Refused } from '../graph/refusal.ts'
import { elementCount, sizeBytes, type Tensor } from '../graph/tensor.ts'
import type { Analysis } from './find/analysis.ts'
import { analyze } from './find/analyze.ts'
import type { Block } from './find/blocks.ts'
import { findEmbeddings, isTied, type EmbeddingLayers } from './find/embeddings.ts'
import { findLinears, type Linear } from './find/linears.ts'
import { unusedWeights } from './find/unused-weights.ts'
import type {
  InspectedLinear,
  InspectedMapping,
  InspectedEmbedding,
  InspectedPort,
  InspectedType,
  InspectReport,
} from './inspected.ts'
import { dryRun } from './dry-run.ts'
import { inspectKernels } from './inspect-kernels.ts'
import { inspectQuantized } from './inspect-quantized.ts'
import { outerGrowth, outputSize } from './output-size.ts'
import { planBranches } from './plan/plan-branches.ts'
import { planEmbeddings } from './plan/plan-embeddings.ts'
import type { ResolvedOptions } from './terms/options.ts'
import { asksForDryRun, checkInspectOptions, type InspectOptions } from './terms/read-options.ts'
import type { SkippedReport } from './terms/report.ts'
import { resolveOptions } from './terms/resolve-options.ts'
import { parseScheme, schemeName } from './terms/scheme.ts'
import { DEFAULT_TARGET, TARGETS, type TargetName } from './terms/targets.ts'

/** Long enough that no dimension of it is mistaken for a head or a batch, short enough to be quick. */
const INSPECTED_TOKENS = 61

const ESTIMATED_SCHEMES = ['w4a16', 'w3a16', 'w2a16', 'w8a16', 'w8a8', 'w4a4']

function typesOf(tensors: Iterable<Tensor>): InspectedType[] {
  const types = new Map<DType, Tensor[]>()
  for (const tensor of tensors) {
    const list = types.get(tensor.dtype)
    if (list) list.push(tensor)
    else types.set(tensor.dtype, [tensor])
  }
  return [...types]
    .map(([dtype, list]) => ({
      dtype,
      tensors: list.length,
      elements: list.reduce((sum, { dims }) => sum + elementCount(dims), 0),
      sizeBytes: list.reduce((sum, tensor) => sum + sizeBytes(tensor), 0),
    }))
    .sort((a, b) => b.sizeBytes - a.sizeBytes)
}

const portOf = ({ name, dtype, shape }: Value): InspectedPort => ({
  name,
  dtype: dtype ?? null,
  shape: shape?.map((dim: Dim) => dim ?? null) ?? null,
})

function groupNote({ inFeatures }: Linear, group: number): string | undefined {
  if (inFeatures < group) return `one scale per output: fewer inputs than a group of ${group}`
  const rest = inFeatures % group
  return rest === 0 ? undefined : `the last group of each output has ${rest} weights`
}

/** @param group of 4-bit weights; undefined: one scale per output. */
function linearOf(linear: Linear, group: number | undefined): InspectedLinear {
  const { name, inFeatures, outFeatures, weight } = linear
  const note = group === undefined ? undefined : groupNote(linear, group)
  const { dtype } = weight.tensor!
  return { name, inFeatures, outFeatures, dtype, sizeBytes: sizeBytes(weight.tensor!), ...(note && { note }) }
}

function mappingsOf(block: Block, { values, leaving, otherBranch }: Analysis): InspectedMapping[] {
  // With activations quantized, because shifts are only made then.
  const { mappings, skippedMappings } = planBranches(
    block,
    { scheme: parseScheme('w4a4'), let: true, values, leaving },
    otherBranch,
  )
  return [
    ...mappings.map(({ name, size, shift }) => ({ name, size, shift: shift !== undefined })),
    ...skippedMappings.map(({ at, reason }) => ({ name: at, reason })),
  ]
}

/** Nodes that stay as they are: in the blocks for the reason given, the rest because it lies outside of them. */
function skippedOf({ working, blocks }: Analysis, { lmHead }: EmbeddingLayers): SkippedReport[] {
  const report = ({ at, reason }: Refused<Node>) => ({ node: at.origin?.name || at.name, reason })
  const inside = new Set(blocks.flatMap(({ nodes }) => nodes))
  const { linears, skipped } = findLinears(
    working.nodes.filter(node => !inside.has(node)),
    dependents(working.nodes, working.inputs),
  )
  const outside = [
    ...linears
      .filter(({ node }) => isRefused(lmHead) || node !== lmHead.node)
      .map(({ node }) => ({ at: node, reason: 'it is not in a block' })),
    ...skipped.map(({ at }) => ({ at, reason: 'it is not in a block' })),
  ]
  return [...blocks.flatMap(block => block.skipped), ...outside].map(report)
}

function outerOf({ lmHead, embeddings }: EmbeddingLayers): InspectedEmbedding[] {
  const tables = isRefused(embeddings) ? [] : embeddings
  const describe = (role: InspectedEmbedding['role'], tied: boolean, linear: Linear): InspectedEmbedding => {
    const { name, inFeatures, outFeatures, weight } = linear
    const { dtype } = weight.tensor!
    return {
      role,
      name,
      vocabSize: outFeatures,
      hiddenSize: inFeatures,
      dtype,
      sizeBytes: sizeBytes(weight.tensor!),
      tied,
    }
  }
  return [
    ...tables.map(table => describe('embedding', isTied(lmHead, table), table)),
    ...(isRefused(lmHead)
      ? []
      : [
          describe(
            'lm_head',
            tables.some(table => isTied(lmHead, table)),
            lmHead,
          ),
        ]),
  ]
}

type Quantizable = Pick<InspectReport, 'blocks' | 'outer' | 'skipped' | 'estimates' | 'vocabSize' | 'maxPositions'>

/** Bytes of the output with the defaults of a target; none for a scheme that cannot be made there. */
function estimatesOf(analysis: Analysis, size: number, name: string, target: TargetName): InspectReport['estimates'] {
  let options: ResolvedOptions
  try {
    options = resolveOptions({ model: analysis.model.path!, scheme: name, target })
  } catch (error) {
    if (error instanceof QuantError && error.code === 'E_SCHEME') return []
    throw error
  }
  const { scheme, format } = options
  const linears = analysis.blocks.flatMap(block => block.linears)
  const outer = planEmbeddings(analysis, options, scheme.weights.symmetric)
  const sizeBytes = outputSize(size, linears, scheme, undefined, format) + outerGrowth(outer, options)
  return [{ scheme: schemeName(scheme), sizeBytes }]
}

function quantizable(analysis: Analysis, size: number, target: TargetName = DEFAULT_TARGET): Quantizable {
  const { blocks, io } = analysis
  const outer = findEmbeddings(analysis)
  return {
    ...(io.vocabSize !== undefined && { vocabSize: io.vocabSize }),
    ...(io.maxPositions !== undefined && { maxPositions: io.maxPositions }),
    blocks: blocks.map(block => ({
      index: block.index,
      linears: block.linears.map(linear => linearOf(linear, TARGETS[target].weights[4].group)),
      mappings: mappingsOf(block, analysis),
    })),
    outer: outerOf(outer),
    skipped: skippedOf(analysis, outer),
    estimates: ESTIMATED_SCHEMES.flatMap(scheme => estimatesOf(analysis, size, scheme, target)),
  }
}

const NOTHING: Quantizable = { blocks: [], outer: [], skipped: [], estimates: [] }

async function tryAnalysis(path: string, seqLen: number | undefined): Promise<Analysis | QuantError> {
  try {
    return await analyze(path, seqLen ?? INSPECTED_TOKENS, seqLen === undefined)
  } catch (error) {
    if (error instanceof QuantError && error.code !== 'E_INTERNAL') return error
    throw error
  }
}

/**
 * Describes a model file. The words of `problem` hold marks of options. One that cannot be quantized is described all the same, with the reason as `problem`.
 * @throws what loadModel throws: E_FILE_NOT_FOUND, E_NOT_ONNX, E_TRUNCATED, E_EXTERNAL_DATA, E_UNSUPPORTED.
 */
export async function inspectModel(options: InspectOptions): Promise<InspectReport> {
  checkInspectOptions(options)
  const { model: path, seqLen, target, scheme } = options
  const foretold = asksForDryRun(options)
  const model: Model = loadModel(path)
  const types = typesOf(tensorsOf(model.graph))
  const size = modelSizeBytes(model)
  const analysis = await tryAnalysis(model.path!, seqLen)
  const refused = analysis instanceof QuantError
  const quantized = inspectQuantized(model, size)
  return {
    model: model.path!,
    files: modelFiles(model),
    sizeBytes: size,
    producer: `${model.producerName} ${model.producerVersion}`.trim(),
    irVersion: model.irVersion,
    opsets: model.opsetImports,
    nodes: model.graph.nodes.length,
    parameters: types.filter(({ dtype }) => isFloat(dtype)).reduce((sum, { elements }) => sum + elements, 0),
    types,
    unused: unusedWeights(model),
    inputs: model.graph.inputs.filter(input => !input.tensor).map(portOf),
    outputs: model.graph.outputs.map(portOf),
    ...(analysis instanceof QuantError
      ? { ...NOTHING, problem: { code: analysis.code, ...analysis.words() } }
      : quantizable(analysis, size, target)),
    ...(quantized && { quantized }),
    ...(foretold && !refused && { dryRun: await dryRun(options) }),
    ...(target && {
      kernels: inspectKernels(model, analysis instanceof QuantError ? undefined : analysis, target, scheme),
    }),
  }
}
