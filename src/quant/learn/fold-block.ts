/** @file Folds a block: runs its fold programs and packs the codes. */

import type { Graph } from '../../graph/ir.ts'
import { readElements } from '../../graph/tensor.ts'
import { firstUnsound, placeOf, shownFloat } from '../../kernels/magnitude.ts'
import { packAs, type PackedLinear } from '../../kernels/pack/layouts.ts'
import type { SessionOptions, Tensors } from '../../kernels/session.ts'
import type { Linear } from '../find/linears.ts'
import { type BlockPlan, layoutOf } from '../plan/block-plan.ts'
import { entriesOf } from '../plan/site-constants.ts'
import type { BlockVersion } from './block-version.ts'
import type { FinishedActivation, FinishedLinear, QuantizedBlock } from './finished-block.ts'
import { foldPrograms } from './fold-programs.ts'
import type { Learned } from './learned.ts'
import { biasName, constantName, siteName, weightInput } from './ports.ts'
import { foldInputs, runFold } from './run-fold.ts'

/** A folded block: the numbers to store, and the block to run with them. */
export interface Folded extends QuantizedBlock {
  readonly version: BlockVersion
  /** The first number that is NaN or infinite, as text for a message. Such a block cannot be stored. */
  readonly unsound?: string | undefined
}

/** Quantizes the block's weights with what was learned, or to nearest without it. */
export async function foldBlock(
  plan: BlockPlan,
  weights: Tensors,
  learned: Learned | undefined,
  session: SessionOptions,
): Promise<Folded> {
  const { linears, changed, constants } = foldPrograms(plan, learned?.vector)
  const inputs = foldInputs(weights, learned?.parameters)
  const run = (program: Graph) => runFold(program, inputs, session)
  const feeds = { ...weights }
  let unsound: string | undefined
  const check = (what: string, numbers: Float32Array, dims: readonly number[]) => {
    const i = firstUnsound(numbers)
    if (i >= 0) unsound ??= `${what} would hold ${shownFloat(numbers[i]!)} at ${placeOf(i, dims)}`
  }
  const packed = new Map<Linear, PackedLinear>()
  // One linear after the other: rounding a weight takes several times its memory.
  for (const { linear, index, program } of linears) {
    const result = await run(program)
    const quantizer = plan.quantizers.get(linear)!
    const weight = {
      codes: readElements(result[`codes${index}`]!) as Uint8Array,
      scale: readElements(result[`scale${index}`]!) as Float32Array,
      zeroPoint: readElements(result[`zero_point${index}`]!) as Uint8Array,
      K: linear.inFeatures,
      N: linear.outFeatures,
      ...quantizer,
      blockSize: plan.blockSizes.get(linear),
    }
    check(`the scales of ${linear.name}`, weight.scale, [weight.scale.length / weight.N, weight.N])
    packed.set(linear, packAs(layoutOf(plan, linear, quantizer), weight))
    feeds[weightInput(index)] = result[`weight${index}`]!
  }
  const values = constants ? await run(constants) : {}
  Object.assign(feeds, values)
  const floats = (name: string, what: string): Float32Array => {
    const numbers = readElements(values[name]!) as Float32Array
    check(what, numbers, values[name]!.dims)
    return numbers
  }
  const data = changed.sites.map(({ site: { node, input } }, j) =>
    floats(constantName(j), `"${node.inputs[input]!.name}"`),
  )
  const biases = new Map(changed.biases.map((linear, j) => [linear, floats(biasName(j), `the bias of ${linear.name}`)]))
  const activations = [...changed.activations].map(([site, shapes], j): FinishedActivation => ({
    site: plan.activationSites.indexOf(site),
    constants: Object.fromEntries(
      entriesOf(shapes).map(([role]) => [role, floats(siteName(j, role), `the ${role} of "${site.value.name}"`)]),
    ),
  }))
  return {
    activations,
    linears: plan.block.linears.map((linear): FinishedLinear => ({
      linear,
      packed: packed.get(linear),
      bias: biases.get(linear),
    })),
    constants: changed.sites.map((site, j) => ({ site: plan.changedSites.indexOf(site), data: data[j]! })),
    version: { feeds, changed, quantized: true },
    unsound,
  }
}
