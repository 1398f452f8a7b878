/** @file Forward program of a block over many samples, with losses and observations of activations. */

import { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/ir.ts'
import { Graph } from '../../graph/ir.ts'
import { prune } from '../../graph/prune.ts'
import { staticShape } from '../../graph/shape.ts'
import type { StateType } from '../../calibration/activation-store.ts'
import type { Linear } from '../find/linears.ts'
import type { ActivationSite } from '../plan/activation-sites.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import { emitBlock } from './emit-block.ts'
import { emitCombined, isCarried, observedName, type Observer, stateName } from './observer.ts'
import { type ChangedConstants, changeInputs, siteInputs, weightInputs } from './ports.ts'
import { emitLoop, type LoopResult, perSample, sampleAt } from './samples.ts'

export interface ForwardOptions {
  /** Changed constants, which become run inputs. */
  readonly changed?: ChangedConstants | undefined
  /** Quantize activations as the plan says. */
  readonly quantized?: boolean
  /** Type of the hidden states in x, target and y; the block itself runs in float32. Default float32. */
  readonly stateType?: StateType
  /** The block's outputs are an output of the program. */
  readonly outputs?: boolean
  /** Losses against the run input `target` are an output. */
  readonly losses?: boolean
  readonly observers?: readonly Observer[]
}

/** Mean squared difference, []. Means of rows first: one sum over millions of float32 numbers would lose digits. */
function emitSquaredError(g: Builder, y: Value, target: Value): Value {
  const difference = g.sub(y, target)
  const rows = g.reduceMean(g.mul(difference, difference), [staticShape(y).length - 1])
  return g.op('ReduceMean', [rows], { keepdims: 0 })
}

/**
 * A Loop over samples: samples int64 [], x [samples, batch, tokens, hidden], weights, changed constants c{j} and biases b{j},
 * with losses target [samples, ...], for the j-th observer that carries a state before{j} -> y [samples, ...], the block's outputs,
 * losses [samples], and observed{j}: the state after the run, or [samples, ...] where samples are not combined. y and losses only where
 * they are asked for. The part of the block that none of these needs is left out.
 */
export function forwardProgram(plan: BlockPlan, options: ForwardOptions = {}): Graph {
  const { changed, stateType = 'float32', observers = [] } = options
  const { block, activationSites } = plan
  const shape = staticShape(block.input)
  const outer = new Builder(new Graph('forward'))
  const count = outer.input('samples', 'int64', [])
  const states = (name: string) => perSample(outer, name, 'samples', shape, stateType)
  const x = states('x')
  const target = options.losses ? states('target') : undefined
  const weights = weightInputs(outer, block)
  const changes = changed && changeInputs(outer, changed)
  const siteConstants = changed && siteInputs(outer, changed)
  const carried = observers.flatMap((observer, j) => (isCarried(observer) ? [{ observer, j }] : []))
  const before = carried.map(({ observer, j }) => outer.input(stateName(j), 'float32', observer.shape))

  const g = new Builder(new Graph('sample'), outer.names)
  const iteration = g.input('iteration', 'int64', [])
  const condition = g.input('continue', 'bool', [])
  const state = before.map(({ name }, i) => g.input(name, 'float32', carried[i]!.observer.shape))
  const values = new Map<Value, Value>()
  const reads = new Map<Linear, Value>()
  const siteValues = new Map<ActivationSite, Value>()
  const y = emitBlock(g, block, sampleAt(g, x, iteration, shape), weights, {
    changes,
    activationSites,
    quantized: options.quantized ?? false,
    siteConstants,
    values,
    siteValues,
    reads,
  })
  const emitted = (observer: Observer) =>
    observer.emit(g, {
      value: value => values.get(value)!,
      atSite: site => siteValues.get(site)!,
      readBy: linear => reads.get(linear)!,
      weight: linear => weights.get(linear)!,
    })
  g.output(g.op('Identity', [condition]))
  const results: LoopResult[] = []
  carried.forEach(({ observer, j }, i) => {
    g.output(emitCombined(g, observer, state[i]!, emitted(observer)))
    results.push({ name: observedName(j), shape: observer.shape })
  })
  const stack = (value: Value, name: string, each: readonly number[]) => {
    g.output(value)
    results.push({ name, dtype: name === 'y' ? stateType : 'float32', shape: ['samples', ...each] })
  }
  // The loss is that of the stored numbers: one that is too large for the type of the states shows in it.
  const stored = g.typed(y, stateType)
  if (options.outputs) stack(stored, 'y', shape)
  if (target)
    stack(emitSquaredError(g, g.typed(stored, 'float32'), sampleAt(g, target, iteration, shape)), 'losses', [])
  observers.forEach((observer, j) => {
    if (!isCarried(observer)) stack(g.op('Identity', [emitted(observer)]), observedName(j), observer.shape)
  })
  prune(g.graph)
  emitLoop(outer, count, before, g.graph, results)
  return outer.graph
}
