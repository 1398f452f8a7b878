/** @file Learned parameters of a whole run, to and from a file, so that it can be repeated without learning. */

import { option } from '../../option-mark.ts'
import { QuantError } from '../../errors.ts'
import { readElements } from '../../graph/tensor.ts'
import { firstUnsound, placeOf, shownFloat } from '../../kernels/magnitude.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import { rulesText } from '../plan/weight-rules.ts'
import type { Method } from '../terms/options.ts'
import { schemeName } from '../terms/scheme.ts'
import { blockParameters, type NamedParameter, type Replay } from './learned.ts'
import { type ParameterFile, readParameterFile, writeParameterFile } from './parameter-file.ts'

const tensorName = (block: number, parameter: string): string => `blocks.${block}.${parameter}`

/** What a file must have been learned for to fit a run. */
const signature = (method: Method, blocks: number): Record<string, string> => ({
  format: 'omniquant parameters 1',
  scheme: schemeName(method.scheme),
  lwc: String(method.lwc),
  let: String(method.let),
  blocks: String(blocks),
  // Absent without any, so that files of before there were exceptions stay good.
  ...(rulesText(method) !== '' && { exceptions: rulesText(method) }),
  ...(method.keepCache && { cache: 'kept' }),
})

/**
 * Writes what every block learned; blocks that are rounded have no tensors in it.
 * @param owner as of `writeParameterFile`
 */
export function saveParameters(
  path: string,
  method: Method,
  blocks: readonly { readonly parameters: readonly NamedParameter[] }[],
  owner?: string,
): void {
  const tensors = blocks.flatMap(({ parameters }, index) =>
    parameters.map(
      ({ name, tensor }) =>
        [tensorName(index, name), { shape: tensor.dims, data: readElements(tensor) as Float32Array }] as const,
    ),
  )
  writeParameterFile(path, { metadata: signature(method, blocks.length), tensors: new Map(tensors) }, owner)
}

/**
 * Parameters from a file that `saveParameters` wrote.
 * @throws E_PARAMETERS when the file cannot be read, was made for another model or scheme, or holds what is no sound number.
 */
export function loadParameters(path: string, method: Method, blocks: number): Replay {
  const file = readParameterFile(path)
  const expected = signature(method, blocks)
  for (const key of new Set([...Object.keys(expected), ...Object.keys(file.metadata)])) {
    const wanted = expected[key] ?? 'not given'
    const found = file.metadata[key] ?? 'not given'
    if (found === wanted) continue
    throw new QuantError(
      'E_PARAMETERS',
      `${path} does not fit this run: its ${key} is ${found}, this run's is ${wanted}`,
      `Give the options and the model it was saved with, or learn again without ${option('params')}.`,
    )
  }
  for (const [name, { shape, data }] of file.tensors) {
    const i = firstUnsound(data)
    if (i < 0) continue
    throw new QuantError(
      'E_PARAMETERS',
      `${path}: "${name}" holds ${shownFloat(data[i]!)} at ${placeOf(i, shape)}, which was never learned`,
      `The file is damaged: copy it again, or learn again without ${option('params')}.`,
    )
  }
  return plan => parametersOf(path, file, plan, method)
}

function parametersOf(path: string, file: ParameterFile, plan: BlockPlan, method: Method): ReturnType<Replay> {
  const { index } = plan.block
  if (![...file.tensors.keys()].some(name => name.startsWith(tensorName(index, '')))) return undefined
  const zero = plan.mappings.map(({ size }) => ({ scale: new Float32Array(size), shift: new Float32Array(size) }))
  const rates = { clipRate: method.lwc ? 0 : undefined, equivalenceRate: 0 }
  const vector = blockParameters(plan, zero, rates)
  const parameters = new Float32Array(vector.size)
  for (const { name, shape } of vector.parameters) {
    const tensor = file.tensors.get(tensorName(index, name))
    if (!tensor || tensor.shape.join() !== shape.join()) {
      throw new QuantError(
        'E_PARAMETERS',
        `${path} does not fit this model: "${tensorName(index, name)}" should be [${shape.join(', ')}] and is ` +
          (tensor ? `[${tensor.shape.join(', ')}]` : 'missing'),
        `Give the model it was saved with, or learn again without ${option('params')}.`,
      )
    }
    vector.view(parameters, name).set(tensor.data)
  }
  return { vector, parameters }
}
