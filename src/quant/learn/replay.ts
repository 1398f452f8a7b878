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
import { readBytes, type Tensor, tensorOf } from '../../graph/tensor.ts'
import { readFloats } from '../../kernels/float16.ts'
import { firstUnsound, placeOf, shownFloat } from '../../kernels/magnitude.ts'
import type { Linear } from '../find/linears.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import type { EmbeddingJob } from '../plan/plan-embeddings.ts'
import { rulesText } from '../plan/weight-rules.ts'
import type { Method } from '../terms/options.ts'
import { schemeName, weightOverrideName } from '../terms/scheme.ts'
import { ChannelRanges } from './channel-ranges.ts'
import { blockParameters, LEARNABLES } from './learnables.ts'
import { clipShape, isLearned, type LearnedOuter, type StoredClip } from './learn-outer.ts'
import type { Learned, NamedParameter } from './learned.ts'

/** Parameters from a file. */
export interface Replay {
  /** Those of a block; undefined for a block that was rounded to nearest and has none. */
  readonly block: (plan: BlockPlan) => Learned | undefined
  /** Clip ratios of a weight outside the blocks; undefined for one that is rounded to nearest. */
  readonly outer: (job: EmbeddingJob) => StoredClip | undefined
}

const tensorName = (block: number, parameter: string): string => `blocks.${block}.${parameter}`

/** "lm_head:w4g32": the weights outside the blocks that are learned. */
const outerText = (outer: readonly EmbeddingJob[], method: Method): string =>
  outer
    .filter(job => isLearned(job, method))
    .map(({ quantizer, lmHead, embedding }) => `${(lmHead ?? embedding)!.name}:${weightOverrideName(quantizer)}`)
    .join(' ')

/** Metadata of the file. It fits runs with the same metadata. */
const signature = (method: Method, blocks: number, outer: readonly EmbeddingJob[]): Record<string, string> => ({
  format: 'omniquant parameters 1',
  scheme: schemeName(method.scheme),
  ...Object.fromEntries(LEARNABLES.map(({ name, enabled }) => [name, String(enabled(method))])),
  blocks: String(blocks),
  // Absent without exceptions: older files have no such key.
  ...(rulesText(method) !== '' && { exceptions: rulesText(method) }),
  ...(method.keepCache && { cache: 'kept' }),
  ...(outerText(outer, method) !== '' && { 'lm_head and embedding': outerText(outer, method) }),
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

const clipName = ({ lmHead, embedding }: EmbeddingJob, side: keyof StoredClip): string =>
  `outer.${(lmHead ?? embedding)!.name}.${side}`

/**
 * Writes the learned parameters of every block, and of lm_head and embeddings. What is rounded has no tensors in the file, but for fixed
 * ranges.
 * @param owner as of `writeSafetensors`
 */
export function saveParameters(
  path: string,
  method: Method,
  blocks: readonly { readonly parameters: readonly NamedParameter[] }[],
  outer: readonly (EmbeddingJob & Pick<LearnedOuter, 'clip'>)[] = [],
  owner?: string,
): void {
  const named: NamedParameter[] = [
    ...blocks.flatMap(({ parameters }, index) =>
      parameters.map(({ name, tensor }) => ({ name: tensorName(index, name), tensor })),
    ),
    ...outer.flatMap(job =>
      job.clip === undefined
        ? []
        : [
            { name: clipName(job, 'max'), tensor: job.clip.max },
            { name: clipName(job, 'min'), tensor: job.clip.min },
          ],
    ),
  ]
  const tensors = named.map(({ name, tensor }): [string, SafetensorsTensor] => [
    name,
    { dtype: 'F32', shape: tensor.dims, bytes: readBytes(tensor) },
  ])
  writeSafetensors(path, { metadata: signature(method, blocks.length, outer), tensors: new Map(tensors) }, owner)
}

/**
 * Parameters from a file that `saveParameters` wrote.
 * @throws E_PARAMETERS when the file cannot be read, was made for another model or scheme, or holds NaN or infinite numbers.
 */
export function loadParameters(
  path: string,
  method: Method,
  blocks: number,
  outer: readonly EmbeddingJob[] = [],
): Replay {
  const file = readSafetensors(path)
  const expected = signature(method, blocks, outer)
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
  return {
    block: plan => parametersOf(path, tensors, plan, method),
    outer: job => (isLearned(job, method) ? clipOf(path, tensors, job) : undefined),
  }
}

/** A tensor of the file in the shape it must have. @throws E_PARAMETERS */
function tensorIn(
  path: string,
  tensors: ReadonlyMap<string, FileParameter>,
  name: string,
  shape: readonly number[],
): FileParameter {
  const tensor = tensors.get(name)
  if (tensor?.shape.join() === shape.join()) return tensor
  throw new QuantError(
    'E_PARAMETERS',
    `${path} does not fit this model: "${name}" should be [${shape.join(', ')}] and is ` +
      (tensor ? `[${tensor.shape.join(', ')}]` : 'missing'),
    `Give the model it was saved with, or learn again without ${option('params')}.`,
  )
}

function clipOf(path: string, tensors: ReadonlyMap<string, FileParameter>, job: EmbeddingJob): StoredClip {
  const shape = clipShape(job)
  const ratios = (side: keyof StoredClip): Tensor =>
    tensorOf('float32', shape, tensorIn(path, tensors, clipName(job, side), shape).data)
  return { max: ratios('max'), min: ratios('min') }
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
    const { data } = tensorIn(path, tensors, tensorName(index, name), shape as readonly number[])
    vector.view(parameters, name).set(data)
  }
  return { vector, parameters }
}
