/** @file From a file to what can be quantized in it: the one place that loads, refuses, normalizes and finds the blocks. */

import { dirname } from 'node:path'
import { feedsFor } from '../../decoder/feeds.ts'
import { checkSeqLen, describeIo, type ModelIo } from '../../decoder/model-io.ts'
import { partnerOf } from '../../decoder/paired-files.ts'
import { QuantError } from '../../errors.ts'
import type { Graph, Value } from '../../graph/ir.ts'
import { loadModel } from '../../graph/onnx-file/load.ts'
import { normalize, type WorkingCopy } from '../../graph/passes/normalize.ts'
import { unfuseAttention } from '../../graph/passes/unfuse-attention.ts'
import { tensorOf } from '../../graph/tensor.ts'
import { runGraph, type Tensors } from '../../kernels/session.ts'
import type { Analysis } from './analysis.ts'
import { findBlocks } from './blocks.ts'
import { requireCausal } from './causality.ts'
import { leavingValues } from './leaving.ts'
import { OTHER_BRANCH, type OtherBranch, readersElsewhere } from './other-branch.ts'

/** Ops that only quantized models have. */
const QUANTIZED_OPS: ReadonlySet<string> = new Set([
  'com.microsoft.MatMulNBits',
  'com.microsoft.MatMulBnb4',
  'com.microsoft.GatherBlockQuantized',
  'com.microsoft.QMoE',
  'com.microsoft.DynamicQuantizeMatMul',
  'com.microsoft.MatMulIntegerToFloat',
  'com.microsoft.QAttention',
  'com.microsoft.QGemm',
  'MatMulInteger',
  'QLinearMatMul',
  'DynamicQuantizeLinear',
  'QuantizeLinear',
  'DequantizeLinear',
])

function refuseQuantized(graph: Graph): void {
  for (const node of graph.nodes) {
    if (QUANTIZED_OPS.has(node.kind)) {
      throw new QuantError(
        'E_ALREADY_QUANTIZED',
        `the model is already quantized: node "${node.name}" is ${node.kind}`,
        'Give the float32 or float16 model it was made from.',
      )
    }
    for (const body of node.subgraphs()) refuseQuantized(body)
  }
}

/**
 * Loads the model at `path` and finds its blocks for sequences of `asked` tokens, or with `capSeqLen` as many of them
 * as the model has positions or takes.
 * @throws what loadModel, describeIo, normalize and findBlocks throw; E_ALREADY_QUANTIZED; E_SEQ_LEN.
 */
export async function analyze(path: string, asked: number, capSeqLen = false): Promise<Analysis> {
  const model = loadModel(path)
  refuseQuantized(model.graph)
  unfuseAttention(model)
  const folder = dirname(model.path!)
  const io = describeIo(model)
  const seqLen = capSeqLen ? (io.seqLen ?? Math.min(asked, io.maxPositions ?? asked)) : asked
  checkSeqLen(io, seqLen)
  const { [io.inputIds.name]: tokens, ...fixed } = feedsFor(io, new BigInt64Array(seqLen), 1, seqLen)
  const copyWith = (inputs: Tensors) =>
    normalize(model, {
      fixedInputs: new Map(Object.entries(inputs)),
      shapes: new Map([[io.inputIds.name, tokens!.dims]]),
      outputs: [io.logits.name],
      evaluate: graph => runGraph(graph, {}, { optimization: 'disabled', threads: 1 }),
    })
  const copy = await copyWith(fixed)
  const { graph: working, values } = copy
  const blocks = findBlocks(working)
  requireCausal(blocks[0]!)
  const outputs = model.graph.outputs.filter(({ name }) => name !== io.logits.name)
  const otherBranch = await findOtherBranch({ model, io, working, blocks }, outputs, flag =>
    copyWith({ ...fixed, ...flag }),
  )
  const partner = partnerOf(model.path!)
  const mayChange = new Set(partner === undefined ? io.past.flatMap(({ present }) => present ?? []) : [])
  const leaving = { values: leavingValues(copy, outputs), mayChange }
  const notes = permutedNotes(io)
  return { model, folder, io, seqLen, working, values, blocks, otherBranch, leaving, partner, notes }
}

/** A note about inputs that have the name of another one, for those who feed the model. */
function permutedNotes({ renamed }: ModelIo): string[] {
  if (renamed.length === 0) return []
  const list = renamed.map(({ name, role }) => `"${name}" is ${role}`).join(', ')
  return [`the exporter has permuted the names of inputs, which stay as they are: ${list}`]
}

/** Readers of the blocks' weights in another branch; the branch is traced as well if an input is known to choose it. */
async function findOtherBranch(
  { model, io, working, blocks }: Pick<Analysis, 'model' | 'io' | 'working' | 'blocks'>,
  outputs: readonly Value[],
  copyWith: (flag: Tensors) => Promise<WorkingCopy>,
): Promise<OtherBranch | undefined> {
  if (model.graph.nodes.every(node => node.subgraphs().length === 0)) return undefined
  const origins = blocks.flatMap(({ linears }) => linears.map(({ origin }) => origin))
  const readers = readersElsewhere(model, origins, new Set(working.nodes.map(({ origin }) => origin)))
  if ([...readers.values()].every(nodes => nodes.length === 0) && io.useCacheBranch === undefined) return undefined
  const refused = (reason: string): OtherBranch => ({ readers, traced: { at: OTHER_BRANCH, reason } })
  if (io.useCacheBranch === undefined) return refused('no input is known to choose the other branch')
  try {
    const copy = await copyWith({ [io.useCacheBranch]: tensorOf('bool', [1], Uint8Array.of(1)) })
    const { graph, values } = copy
    return { readers, traced: { blocks: findBlocks(graph), values, leaving: leavingValues(copy, outputs) } }
  } catch (error) {
    if (!(error instanceof QuantError)) throw error
    return refused(`the other branch cannot be traced (${error.message})`)
  }
}
