/** @file Learned parameters of a run in a file, with which the run can be repeated without learning. */

import { option } from '../../option-mark.ts'
import { QuantError } from '../../errors.ts'
import {
  readSafetensors,
  type SafetensorsTensor,
  type SafetensorsType,
  writeSafetensors,
} from '../../files/safetensors.ts'
import type { DType } from '../../graph/dtype.ts'
import { readBytes } from '../../graph/tensor.ts'
import { readFloats } from '../../kernels/float16.ts'
import { firstUnsound, placeOf, shownFloat } from '../../kernels/magnitude.ts'
import type { Linear } from '../find/linears.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import { rulesText } from '../plan/weight-rules.ts'
import type { Method } from '../terms/options.ts'
import { schemeName } from '../terms/scheme.ts'
import { ChannelRanges } from './channel-ranges.ts'
import { blockParameters, LEARNABLES } from './learnables.ts'
import type { Learned, NamedParameter } from './learned.ts'

/** Parameters of a block from a file; undefined for a block that was rounded to nearest and has none. */
export type Replay = (plan: BlockPlan) => Learned | undefined

const tensorName = (block: number, parameter: string): string => `blocks.${block}.${parameter}`

/** Metadata of the file. It fits runs with the same metadata. */
const signature = (method: Method, blocks: number): Record<string, string> => ({
  format: 'omniquant parameters 1',
  scheme: schemeName(method.scheme),
  ...Object.fromEntries(LEARNABLES.map(({ name, enabled }) => [name, String(enabled(method))])),
  blocks: String(blocks),
  // Absent without exceptions: older files have no such key.
  ...(rulesText(method) !== '' && { exceptions: rulesText(method) }),
  ...(method.keepCache && { cache: 'kept' }),
})

const TYPES: Readonly<Record<SafetensorsType, DType>> = {
  F32: 'float32',
  F16: 'float16',
  BF16: 'bfloat16',
  F64: 'float64',
}

/** A tensor of the file as float32. */
interface FileParameter {
  readonly shape: readonly number[]
  readonly data: Float32Array
}

const floatsOf = ({ dtype, shape, bytes }: SafetensorsTensor): FileParameter => ({
  shape,
  data: readFloats({ dtype: TYPES[dtype], dims: shape, data: bytes }),
})

/**
 * Writes the learned parameters of every block. Blocks that are rounded have no tensors in the file, but for fixed ranges.
 * @param owner as of `writeSafetensors`
 */
export function saveParameters(
  path: string,
  method: Method,
  blocks: readonly { readonly parameters: readonly NamedParameter[] }[],
  owner?: string,
): void {
  const tensors = blocks.flatMap(({ parameters }, index) =>
    parameters.map(({ name, tensor }): [string, SafetensorsTensor] => [
      tensorName(index, name),
      { dtype: 'F32', shape: tensor.dims, bytes: readBytes(tensor) },
    ]),
  )
  writeSafetensors(path, { metadata: signature(method, blocks.length), tensors: new Map(tensors) }, owner)
}

/**
 * Parameters from a file that `saveParameters` wrote.
 * @throws E_PARAMETERS when the file cannot be read, was made for another model or scheme, or holds NaN or infinite numbers.
 */
export function loadParameters(path: string, method: Method, blocks: number): Replay {
  const file = readSafetensors(path)
  const expected = signature(method, blocks)
  // Files that are older than a learnable do not name it.
  const without = Object.fromEntries(LEARNABLES.map(({ name }) => [name, 'false']))
  const metadata = { ...without, ...file.metadata }
  for (const key of new Set([...Object.keys(expected), ...Object.keys(metadata)])) {
    const wanted = expected[key] ?? 'not given'
    const found = metadata[key] ?? 'not given'
    if (found === wanted) continue
    throw new QuantError(
      'E_PARAMETERS',
      `${path} does not fit this run: its ${key} is ${found}, this run's is ${wanted}`,
      `Give the options and the model it was saved with, or learn again without ${option('params')}.`,
    )
  }
  const tensors = new Map([...file.tensors].map(([name, tensor]) => [name, floatsOf(tensor)]))
  for (const [name, { shape, data }] of tensors) {
    const i = firstUnsound(data)
    if (i < 0) continue
    throw new QuantError(
      'E_PARAMETERS',
      `${path}: "${name}" holds ${shownFloat(data[i]!)} at ${placeOf(i, shape)}, which was never learned`,
      `The file is damaged: copy it again, or learn again without ${option('params')}.`,
    )
  }
  return plan => parametersOf(path, tensors, plan, method)
}

function parametersOf(
  path: string,
  tensors: ReadonlyMap<string, FileParameter>,
  plan: BlockPlan,
  method: Method,
): Learned | undefined {
  const { index } = plan.block
  // Names and shapes are all that is needed: no initial value is computed from this start.
  const start = { method, frozen: new Set<Linear>(), ranges: new ChannelRanges(), weights: {} }
  const rounded = blockParameters(plan, start, 'always')
  const ofRounded = new Set(rounded.parameters.map(({ name }) => tensorName(index, name)))
  const isLearned = [...tensors.keys()].some(name => name.startsWith(tensorName(index, '')) && !ofRounded.has(name))
  const vector = isLearned ? blockParameters(plan, start) : rounded
  if (vector.size === 0) return undefined
  const parameters = new Float32Array(vector.size)
  for (const { name, shape } of vector.parameters) {
    const tensor = tensors.get(tensorName(index, name))
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
