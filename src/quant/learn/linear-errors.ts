/** @file Errors of the outputs of a block's linears, measured on a few tokens: for the report alone. */

import type { ActivationStore } from '../../calibration/activation-store.ts'
import { Builder } from '../../graph/builder.ts'
import { Graph } from '../../graph/ir.ts'
import { staticShape } from '../../graph/shape.ts'
import { elementCount, tensorOf } from '../../graph/tensor.ts'
import { readFloats } from '../../kernels/float16.ts'
import { withPrograms } from '../../kernels/programs.ts'
import type { SessionOptions, Tensors } from '../../kernels/session.ts'
import type { Linear } from '../find/linears.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import type { Folded } from './fold-block.ts'
import { foldPrograms } from './fold-programs.ts'
import { groupsOfReaders } from './input-moments.ts'
import type { Learned } from './learned.ts'
import type { Observer, SampleValues } from './observer.ts'
import { weightInput } from './ports.ts'
import { runBlock } from './run-block.ts'
import { foldInputs, runFold } from './run-fold.ts'

/** Samples whose tokens are looked at. */
const SAMPLES = 2

/** Tokens of each sample, the last: the first of a text have activations like no others. */
const ROWS = 128

/**
 * x [rows, K], w [K, N], q [K, N] -> the mean squares of x w and of x w - x q, [2]. Means of rows first: one sum over millions of float32
 * numbers would lose digits.
 */
function errorProgram(rows: number, K: number, N: number): Graph {
  const g = new Builder(new Graph('linear_error'))
  const x = g.input('x', 'float32', [rows, K])
  const y = g.matMul(x, g.input('w', 'float32', [K, N]))
  const error = g.sub(y, g.matMul(x, g.input('q', 'float32', [K, N])))
  const means = [y, error].map(value => g.reduceMean(g.reduceMean(g.mul(value, value), [1]), [0]))
  g.output(
    g.concat(
      means.map(mean => g.reshape(mean, [1])),
      0,
    ),
    'means',
  )
  return g.graph
}

/** The last rows of the linear's inputs, [samples * rows, K], by reader. */
async function inputsOf(
  plan: BlockPlan,
  version: Folded['version'],
  from: ActivationStore,
  session: SessionOptions,
): Promise<{ readonly readers: readonly Linear[]; readonly rows: number; readonly x: Float32Array }[]> {
  const samples = Math.min(SAMPLES, from.samples)
  const groups = groupsOfReaders(plan, [...plan.quantizers.keys()]).map(readers => {
    const shape = staticShape(readers[0]!.node.inputs[0]!)
    const K = shape.at(-1)!
    const all = elementCount(shape) / K
    const rows = Math.min(ROWS, all)
    return { readers, K, all, rows, x: new Float32Array(samples * rows * K), filled: 0 }
  })
  const observers = groups.map((group): Observer => {
    const { readers, K, all, rows } = group
    return {
      shape: [rows, K],
      over: 'each',
      emit: (g: Builder, { readBy }: SampleValues) =>
        g.slice(g.reshape(readBy(readers[0]!), [all, K]), 0, all - rows, all),
      take: part => {
        group.x.set(part, group.filled)
        group.filled += part.length
      },
    }
  })
  await runBlock(plan, version, { from, samples, observers }, session)
  return groups.map(({ readers, rows, x }) => ({ readers, rows: samples * rows, x }))
}

/**
 * |x W - x Wq|^2 / |x W|^2 of every linear that is quantized; those for which it is not finite are left out. It takes some runs of the
 * block on a sample.
 * @param weights w{i} of the float block. @param from inputs of the block in the quantized model.
 */
export async function linearErrors(
  plan: BlockPlan,
  weights: Tensors,
  learned: Learned | undefined,
  { version }: Pick<Folded, 'version'>,
  from: ActivationStore,
  session: SessionOptions,
): Promise<ReadonlyMap<Linear, number>> {
  const inputs = await inputsOf(plan, version, from, session)
  const folds = new Map(foldPrograms(plan, learned?.vector).linears.map(fold => [fold.linear, fold]))
  const parameters = foldInputs(weights, learned?.parameters)
  const errors = new Map<Linear, number>()
  await withPrograms({ ...session, matmul: 'float32', memoryPattern: false }, async programs => {
    for (const { readers, rows, x } of inputs)
      for (const linear of readers) {
        const { index, transformed } = folds.get(linear)!
        const { inFeatures: K, outFeatures: N } = linear
        const name = weightInput(index)
        const float = transformed ? await runFold(transformed, parameters, session) : undefined
        const program = await programs.get(`${rows}:${K}:${N}`, () => errorProgram(rows, K, N))
        const result = await program.run({
          x: tensorOf('float32', [rows, K], x),
          w: float ? float[transformed!.outputs[0]!.name]! : weights[name]!,
          q: version.feeds[name]!,
        })
        const [power, error] = readFloats(result['means']!)
        const relative = error! / power!
        if (Number.isFinite(relative)) errors.set(linear, relative)
      }
  })
  return errors
}
