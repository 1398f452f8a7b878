/**
 * @file Raises the ai.onnx version of the user's graph. Most new versions of an op only take more types. The table has the ops whose
 * nodes would mean something else, or would not be allowed: they are converted or refused. Source: the changelog of ONNX.
 */

import { QuantError } from '../../errors.ts'
import { GraphWriter } from '../graph-writer.ts'
import { type Graph, type Model, type Node, opsetOf } from '../ir.ts'
import { rowsFor } from '../ops.ts'
import { axesToInput, changed, dropout, type Modernization, split } from './modernize.ts'

/** Files below this have older forms still, of Clip, Pad, Slice, TopK, Resize. */
const LEAST_OPSET = 11

/** Version of the file format that goes with opset 21, the highest that the table knows. Types of 4 bits came with it. */
const IR_VERSION = 10

/** Before this version of the file format, initializers had to be inputs too. Since then such an input may be given another value. */
const FREE_INITIALIZERS = 4

/** A version of an op that means something else. */
interface Change {
  readonly since: number
  /** True for nodes that it concerns; all of them when absent. */
  readonly concerns?: (node: Node) => boolean
  /** Writes the node as the new version has it. Nodes without it are refused. */
  readonly convert?: Modernization
}

/**
 * Softmax, LogSoftmax, Hardmax before 13: all axes from `axis` (default 1) on were one row. A Flatten makes these rows, the Reshape that
 * is returned undoes them. No shape needs to be known.
 */
const matrixRows: Modernization = (g, node, inputs) => {
  const rows = g.op('Flatten', [inputs[0]], { axis: node.int('axis', 1) }, { role: 'rows' })
  const y = g.op(node.opType, [rows], { axis: -1 }, { role: 'of_rows' })
  const shape = g.op('Shape', [inputs[0]], {}, { role: 'shape', dtype: 'int64' })
  return changed(node, { opType: 'Reshape', inputs: [y, shape], attributes: { axis: undefined } })
}

const rowSoftmax: Change = { since: 13, concerns: node => node.int('axis', 1) !== -1, convert: matrixRows }

const axes = (since: number): Change => ({ since, concerns: node => node.attributes.has('axes'), convert: axesToInput })

/** Ops that meant something else in a version from 11 to 21. */
const CHANGES: Readonly<Record<string, Change>> = {
  ...rowsFor(['reduction'], axes(18)),
  ReduceLogSum: axes(18),
  ReduceSum: axes(13),
  Squeeze: axes(13),
  Unsqueeze: axes(13),
  // Sizes: 13; the count of equal parts: 18.
  Split: { since: 18, concerns: node => node.attributes.has('split') || !node.inputs[1], convert: split },
  Softmax: rowSoftmax,
  LogSoftmax: rowSoftmax,
  Hardmax: rowSoftmax,
  // The ratio became an input. A model that is only run drops nothing.
  Dropout: { since: 12, convert: dropout },
  // Statistics of training became other outputs.
  BatchNormalization: { since: 14, concerns: ({ outputs }) => outputs.length > 1 },
  // Other default of coordinate_transformation_mode.
  RoiAlign: { since: 16 },
  // One way to place coordinates was dropped.
  Resize: {
    since: 13,
    concerns: node => node.string('coordinate_transformation_mode', '') === 'tf_half_pixel_for_nn',
  },
  // Other names of modes.
  GridSample: { since: 20, concerns: node => node.attributes.has('mode') },
  // The axis became an input, with another default.
  DFT: { since: 20 },
  // One scale for each channel instead of each group.
  GroupNormalization: { since: 21 },
}

/** The change that concerns a node when opset `from` becomes `to`. */
function changeOf(node: Node, from: number, to: number): Change | undefined {
  const change = Object.hasOwn(CHANGES, node.kind) ? CHANGES[node.kind]! : undefined
  const isBetween = change && from < change.since && change.since <= to
  return isBetween && (change.concerns?.(node) ?? true) ? change : undefined
}

const advice = (to: number): string =>
  `Export the model again with opset ${to} or newer, or convert it with onnx.version_converter.`

function refuse(node: Node, from: number, to: number, where = ''): never {
  throw new QuantError(
    'E_UNSUPPORTED',
    `the model is written in opset ${from} and needs ${to}: ${node.kind} "${node.name}"${where} means something else there`,
    advice(to),
  )
}

function* nodesOf({ nodes }: Graph): Iterable<Node> {
  for (const node of nodes) {
    for (const body of node.subgraphs()) yield* nodesOf(body)
    yield node
  }
}

/**
 * Checks that `raiseOpset` can raise a model, and changes nothing. Functions of the file are not converted.
 * @throws E_UNSUPPORTED naming the node that cannot be converted; for models below opset 11.
 */
export function checkOpset(model: Model, to: number): void {
  const from = opsetOf(model)
  if (from >= to) return
  if (from < LEAST_OPSET)
    throw new QuantError('E_UNSUPPORTED', `the model is written in opset ${from} and needs ${to}`, advice(to))
  for (const node of nodesOf(model.graph)) {
    const change = changeOf(node, from, to)
    if (change && !change.convert) refuse(node, from, to)
  }
  for (const { body, opset } of model.functions?.values() ?? [])
    for (const node of nodesOf(body))
      if (changeOf(node, opset, to)) refuse(node, opset, to, ` in the function "${body.name}"`)
}

/**
 * Raises a model to a version of ai.onnx, in place: bodies and functions included, and the file format with it. Nodes stay the same
 * objects. Does nothing where the version is high enough.
 * @param to at most 21. @throws E_UNSUPPORTED as `checkOpset` does; for Dropout in training mode.
 */
export function raiseOpset(model: Model, to: number): void {
  const from = opsetOf(model)
  if (from >= to) return
  checkOpset(model, to)
  const { irVersion, graph } = model
  if (irVersion < FREE_INITIALIZERS) graph.inputs = graph.inputs.filter(({ tensor }) => !tensor)
  model.irVersion = Math.max(irVersion, IR_VERSION)
  model.opsetImports = model.opsetImports.map(each =>
    each.domain === '' || each.domain === 'ai.onnx' ? { ...each, version: to } : each,
  )
  model.functions = new Map(
    [...(model.functions ?? [])].map(([kind, each]) => [kind, { ...each, opset: Math.max(each.opset, to) }]),
  )
  const writer = new GraphWriter(model)
  writer.rewriteNodes(node => {
    const convert = changeOf(node, from, to)?.convert
    const g = writer.at({ values: node.outputs[0]?.name ?? node.name, nodes: node.name })
    const modern = convert?.(g, node, node.inputs, from)
    if (modern) become(node, modern)
    return [...writer.take(), node]
  })
}

/** Makes `node` what `modern` is. Its outputs stay. */
function become(node: Node, { opType, inputs, outputs, attributes }: Node): void {
  node.opType = opType
  node.inputs = inputs
  node.attributes = attributes
  node.outputs = node.outputs.slice(0, outputs.length)
}
