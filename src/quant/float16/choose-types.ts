/**
 * @file Types of a float16 model: every float32 value of the source becomes float16, or stays float32 where the rules (op-rules.ts)
 * and the numbers ask for it. Changes nothing.
 */

import { dtypeNumber } from '../../graph/dtype.ts'
import type { Graph, Model, Node, Value } from '../../graph/ir.ts'
import { storedTensor } from '../../graph/stored-weight.ts'
import { type Tensor, tensorOf } from '../../graph/tensor.ts'
import { type Fit, fitOf } from './fit.ts'
import { isLookup, isOther, isStatistic, ruleOf, takesAny } from './op-rules.ts'

export type Precision = 'float16' | 'float32'

/** A float32 value of the source. */
interface Fact {
  /** Undefined for constants, and for what only depends on constants: they take the type of their readers. */
  readonly type: Precision | undefined
  /** True for what is computed from activations; false for constants, masks, positions. */
  readonly data: boolean
  /** Only constants and what is made of them alone are tiny. A mask made with a wide constant is wide, too. */
  readonly fit: Fit
}

export interface ChosenTypes {
  /** Type of each float32 value of the source. */
  readonly values: ReadonlyMap<Value, Precision>
  /** Type in which a node reads its floats. Nodes that read none, or any, are left out. */
  readonly nodes: ReadonlyMap<Node, Precision>
  /** Values that may hold finite numbers beyond the range of float16. */
  readonly wide: ReadonlySet<Value>
}

/** float32 numbers of a constant; undefined for other values. */
export function float32Constant(value: Value): Tensor | undefined {
  const { producer } = value
  const tensor = storedTensor(value)
  if (tensor) return tensor.dtype === 'float32' ? tensor : undefined
  if (producer?.kind !== 'Constant') return undefined
  const [one, many] = [producer.attributes.get('value_float'), producer.attributes.get('value_floats')]
  if (one?.type === 'float') return tensorOf('float32', [], Float32Array.of(one.value))
  if (many?.type === 'floats') return tensorOf('float32', [many.value.length], Float32Array.from(many.value))
  return undefined
}

const ACTIVATION: Fact = { type: 'float16', data: true, fit: 'yes' }

/** Number of float32 in attributes. */
const FLOAT32 = dtypeNumber('float32')

const worst = (facts: readonly Fact[]): Fit =>
  facts.some(({ fit }) => fit === 'wide') ? 'wide' : facts.some(({ fit }) => fit === 'tiny') ? 'tiny' : 'yes'

class Chooser {
  private readonly facts = new Map<Value, Fact>()
  private readonly precisions = new Map<Node, Precision | undefined>()
  private readonly demands = new Map<Value, Set<Precision>>()
  private readonly model: Model

  constructor(model: Model) {
    this.model = model
  }

  choose(): ChosenTypes {
    const { graph } = this.model
    this.forward(graph, ACTIVATION)
    for (const output of graph.outputs) this.demand(output, 'float16')
    this.backward(graph)
    const nodes = [...this.precisions].flatMap(([node, type]) => (type ? [[node, type] as const] : []))
    return {
      values: new Map([...this.facts.keys()].map(value => [value, this.typeOf(value)])),
      nodes: new Map(nodes),
      wide: new Set([...this.facts].flatMap(([value, { fit }]) => (fit === 'wide' ? [value] : []))),
    }
  }

  /** Facts of a graph's values, in order. @param input fact of its float32 inputs. */
  private forward(graph: Graph, input: Fact): void {
    for (const value of graph.initializers) this.constant(value)
    for (const value of graph.inputs) if (value.dtype === 'float32' && !value.tensor) this.facts.set(value, input)
    for (const node of graph.nodes) {
      // States of a Loop keep one type over all steps; its own values are chosen like any others.
      for (const body of node.subgraphs()) this.forward(body, { ...ACTIVATION, type: 'float32' })
      this.node(node)
    }
  }

  private constant(value: Value): void {
    const tensor = float32Constant(value)
    if (tensor) this.facts.set(value, { type: undefined, data: false, fit: fitOf(tensor) })
  }

  private node(node: Node): void {
    const { kind, outputs } = node
    if (kind === 'Constant') return outputs.forEach(output => output && this.constant(output))
    if (kind === 'If') return this.branches(node)
    const inputs = node.inputs.flatMap(value => (value && this.facts.get(value)) ?? [])
    const made = inputs.length === 0 ? this.source(node) : undefined
    if (inputs.length === 0 && !made) return
    if (inputs.length === 0 || takesAny(node)) return this.set(node, made)
    if (kind === 'Cast' && node.int('to', FLOAT32) !== FLOAT32) return
    const fact = this.result(node, inputs)
    this.precisions.set(node, fact.type)
    this.set(node, fact)
  }

  private set(node: Node, fact: Fact | undefined): void {
    node.outputs.forEach((output, i) => {
      if (!output || !fact || isOther(node, i) || (output.dtype ?? 'float32') !== 'float32') return
      this.facts.set(output, isStatistic(node, i) ? { ...fact, type: 'float32' } : fact)
    })
  }

  /** Fact about the result of a node that reads no float32: undefined where that is no float32 either. */
  private source(node: Node): Fact | undefined {
    const fact: Fact = { type: 'float32', data: false, fit: 'yes' }
    if (node.kind === 'Cast' && node.int('to', 0) === FLOAT32) {
      const [from] = node.inputs
      if (from && storedTensor(from)?.dtype === 'float16') return { ...fact, type: undefined }
      return { ...fact, data: from?.dtype === 'float16' }
    }
    if (node.kind === 'ConstantOfShape') {
      const value = node.attributes.get('value')
      if (value?.type !== 'tensor') return fact
      return value.value.dtype === 'float32' ? { ...fact, fit: fitOf(value.value) } : undefined
    }
    const isRandom = node.int('dtype', 0) === FLOAT32
    return isRandom || node.outputs.some(output => output?.dtype === 'float32') ? fact : undefined
  }

  /** Fact about what a node computes in float, or would if its outputs were floats. */
  private result(node: Node, inputs: readonly Fact[]): Fact {
    const rule = this.model.functions?.has(node.kind) ? 'float32' : ruleOf(node.kind)
    const constants = inputs.filter(({ type }) => type === undefined)
    const others = inputs.filter(({ type }) => type !== undefined)
    const data = inputs.some(each => each.data)
    const float32 = (fit: Fit = 'yes'): Fact => ({ type: 'float32', data, fit })
    if (rule === 'float32') return float32()
    if (rule === 'float16') return worst(constants) === 'yes' ? ACTIVATION : float32()
    if (rule === 'product') return data && worst(constants) === 'yes' ? ACTIVATION : float32()
    const fit = worst(inputs)
    if (others.length === 0) {
      const [, indices] = node.inputs
      const isActivation = isLookup(node) && !(indices && storedTensor(indices))
      if (fit === 'yes') return isActivation ? ACTIVATION : { type: undefined, data: false, fit }
      return { type: 'float32', data: isActivation, fit }
    }
    const isFloat32 = ({ type, data: isData }: Fact) => type === 'float32' && (rule === 'compares' || isData)
    const pulled = fit !== 'yes' || (rule !== 'follows' && others.some(isFloat32))
    if (others.every(({ type }) => type === 'float32') || pulled) return float32(fit === 'wide' ? fit : 'yes')
    return ACTIVATION
  }

  /** Outputs of If: float32 where a branch may leave float16's range, or no branch has activations. */
  private branches(node: Node): void {
    const bodies = node.subgraphs()
    node.outputs.forEach((output, i) => {
      const facts = bodies.flatMap(body => this.facts.get(body.outputs[i]!) ?? [])
      if (!output || facts.length === 0) return
      const fit = worst(facts)
      const type = facts.every(fact => fact.type === undefined) ? undefined : 'float32'
      const stays = fit !== 'yes' || facts.every(({ data }) => !data)
      this.facts.set(output, stays ? { type, data: false, fit } : ACTIVATION)
    })
  }

  private demand(value: Value, type: Precision): void {
    if (!this.facts.has(value)) return
    this.demands.set(value, (this.demands.get(value) ?? new Set()).add(type))
  }

  /** Readers before what they read, so that constants learn what is wanted. */
  private backward(graph: Graph): void {
    for (const node of graph.nodes.toReversed()) {
      for (const body of node.subgraphs()) {
        body.outputs.forEach((value, i) => {
          const output = node.kind === 'If' ? node.outputs[i] : undefined
          this.demand(value, output && this.facts.has(output) ? this.typeOf(output) : 'float32')
        })
        this.backward(body)
      }
      if (!this.precisions.has(node) || this.castOfSource(node)) continue
      const outputs = node.outputs.filter(output => output !== undefined)
      const type = this.precisions.get(node) ?? this.typeOfResult(outputs)
      this.precisions.set(node, type)
      for (const input of node.inputs) if (input) this.demand(input, type)
    }
  }

  /** Lets a Cast of the source give what all its readers want, whatever it reads; true where that was possible. */
  private castOfSource(node: Node): boolean {
    const [from, to] = [node.inputs[0]!, node.outputs[0]!]
    const fact = this.facts.get(to)
    const [type, another] = this.demands.get(to) ?? []
    if (node.kind !== 'Cast' || !fact?.type || fact.fit === 'wide' || !type || another) return false
    this.facts.set(to, { ...fact, type })
    this.precisions.delete(node)
    this.demand(from, type)
    return true
  }

  /** Type of what is computed from constants alone: float32 if one output is wanted so. Comparisons are made in float32. */
  private typeOfResult(outputs: readonly Value[]): Precision {
    const floats = outputs.filter(output => this.facts.has(output))
    const type = floats.length > 0 && floats.every(each => this.typeOf(each) === 'float16') ? 'float16' : 'float32'
    for (const output of floats) this.facts.set(output, { ...this.facts.get(output)!, type })
    return type
  }

  /** Type of a value whose readers are known. */
  private typeOf(value: Value): Precision {
    const { type, fit } = this.facts.get(value)!
    return type ?? (this.demands.get(value)?.has('float32') || fit !== 'yes' ? 'float32' : 'float16')
  }
}

/** Chooses the types of a float16 model. Constants on disk are read once, in pieces. */
export const chooseTypes = (model: Model): ChosenTypes => new Chooser(model).choose()
