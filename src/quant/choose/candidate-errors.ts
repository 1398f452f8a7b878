/** @file Errors of a block's linears at each of their candidates, from the mean squares of what they read in the float model. */

import type { ActivationStore } from '../../calibration/activation-store.ts'
import { Builder } from '../../graph/builder.ts'
import { Graph } from '../../graph/ir.ts'
import { readElements, type Tensor, tensorOf } from '../../graph/tensor.ts'
import { type ClipRatios, groupsOf, type WeightQuantizer } from '../../kernels/qparams.ts'
import { type Programs, withPrograms } from '../../kernels/programs.ts'
import type { Tensors } from '../../kernels/session.ts'
import { emitFakeQuantize, emitWeightRange } from '../../kernels/weights.ts'
import type { Linear } from '../find/linears.ts'
import { floatVersion } from '../learn/block-version.ts'
import { searchClip, type Weights } from '../learn/clip-search.ts'
import { groupsOfReaders, inputMoments } from '../learn/input-moments.ts'
import { weightInput } from '../learn/ports.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import type { Method } from '../terms/options.ts'
import type { CandidateLinear } from './candidates.ts'

/** Share of the mean square that is added to each square: few tokens do not say what every input is worth. */
const DAMPING = 0.01

/** Most columns of a weight that candidates are tried on, evenly spread. Errors of an output are a mean over columns. */
const COLUMNS = 256

/** A linear with what its candidates do to it. */
export interface LinearErrors extends CandidateLinear {
  /** Mean squared error of the output over its mean square, of each candidate. */
  readonly errors: readonly number[]
  /** The weight rounded coarsely, float32 [K, N]: by the candidate of the largest error, with one clip ratio for each end of all ranges. */
  readonly coarse: Tensor
  /** Error of that. */
  readonly coarseError: number
}

/** Position of the greatest number; the first of equals. */
const greatest = (numbers: readonly number[]): number => numbers.indexOf(Math.max(...numbers))

/** w [K, N] and clip ratios max and min [G, N] -> the weight that the codes stand for. */
function quantizedProgram(K: number, N: number, quantizer: WeightQuantizer): Graph {
  const g = new Builder(new Graph('quantized'))
  const { count } = groupsOf(K, quantizer.group)
  const w = g.input('w', 'float32', [K, N])
  const ratios = { max: g.input('max', 'float32', [count, N]), min: g.input('min', 'float32', [count, N]) }
  const { output } = emitFakeQuantize(g, w, emitWeightRange(g, w, quantizer.group), quantizer, { ratios })
  g.output(g.op('Identity', [output]), 'quantized')
  return g.graph
}

const mean = (numbers: Float32Array): number => numbers.reduce((sum, number) => sum + number, 0) / numbers.length

/** The weight rounded over ranges that are all clipped by the mean of these ratios. */
async function coarsely(w: Tensor, quantizer: WeightQuantizer, clip: ClipRatios, programs: Programs): Promise<Tensor> {
  const [K, N] = w.dims as [number, number]
  const { count } = groupsOf(K, quantizer.group)
  const key = `quantized ${JSON.stringify([K, N, quantizer])}`
  const program = await programs.get(key, () => quantizedProgram(K, N, quantizer))
  const ratios = (found: Float32Array) => tensorOf('float32', [count, N], new Float32Array(count * N).fill(mean(found)))
  return (await program.run({ w, max: ratios(clip.max), min: ratios(clip.min) }))['quantized']!
}

/** Sums of squares of inputs with a share of their mean added to each, in place. */
function weighing(squares: Float32Array): Weights {
  const added = DAMPING * mean(squares)
  for (let k = 0; k < squares.length; k++) squares[k]! += added
  return { by: 'channels', numbers: squares }
}

/** Evenly spread columns of w [K, N]: [K, n]. */
function someColumns({ dims, ...w }: Tensor): Tensor {
  const [K, N] = dims as [number, number]
  const n = Math.min(N, COLUMNS)
  const all = readElements({ dims, ...w }) as Float32Array
  const some = new Float32Array(K * n)
  for (let k = 0; k < K; k++) for (let j = 0; j < n; j++) some[k * n + j] = all[k * N + Math.floor((j * N) / n)]!
  return tensorOf('float32', [K, n], some)
}

/** Mean over the columns of the squares of a - b, each row in its weight. */
function weightedError(a: Tensor, b: Tensor, { numbers }: Weights): number {
  const [K, n] = a.dims as [number, number]
  const [x, y] = [readElements(a) as Float32Array, readElements(b) as Float32Array]
  let sum = 0
  for (let k = 0; k < K; k++) {
    let row = 0
    for (let j = k * n; j < (k + 1) * n; j++) row += (x[j]! - y[j]!) ** 2
    sum += numbers[k]! * row
  }
  return sum / n
}

/**
 * Errors of linears when each is rounded over the ranges under which its output differs least, on the inputs `from` of the float block.
 * @param weights run inputs w{i} of the block. @throws the reason of an abort.
 */
export async function candidateErrors(
  plan: BlockPlan,
  linears: readonly CandidateLinear[],
  weights: Tensors,
  from: ActivationStore,
  { session, signal }: Method,
): Promise<LinearErrors[]> {
  if (linears.length === 0) return []
  const byLinear = new Map<Linear, CandidateLinear>(linears.map(each => [each.linear, each]))
  const found = new Map<Linear, LinearErrors>()
  await withPrograms(session, async programs => {
    const readers = groupsOfReaders(plan, [...byLinear.keys()])
    const squares = await inputMoments(plan, floatVersion(weights), readers, { from, of: 'squares' }, session)
    for (const [i, group] of readers.entries()) {
      const weighed = weighing(squares[i]!)
      for (const linear of group) {
        const w = weights[weightInput(plan.block.linears.indexOf(linear))]!
        const some = someColumns(w)
        const stored = { name: linear.name, tensor: some, transposed: false }
        const { candidates } = byLinear.get(linear)!
        const clips: ClipRatios[] = []
        const errors: number[] = []
        let output = 0
        for (const { quantizer } of candidates) {
          signal?.throwIfAborted()
          const search = { session, programs, passes: 1 }
          const { clip, learnedLoss, energy } = await searchClip(stored, quantizer, weighed, search)
          output = energy
          clips.push(clip)
          errors.push(energy > 0 ? Math.max(0, learnedLoss) / energy : 0)
        }
        const at = greatest(errors)
        const coarse = await coarsely(w, candidates[at]!.quantizer, clips[at]!, programs)
        const coarseError = output > 0 ? weightedError(some, someColumns(coarse), weighed) / output : 0
        found.set(linear, { linear, candidates, errors, coarse, coarseError })
      }
    }
  })
  return linears.map(({ linear }) => found.get(linear)!)
}
