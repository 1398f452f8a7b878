/** @file Binds a model's inputs to their roles and refuses, all at once, those that contradict their name or have none. */

import { QuantError } from '../errors.ts'
import type { DType } from '../graph/dtype.ts'
import type { Dim } from '../graph/ir.ts'
import { type CacheRole, type InputRole, inputRole } from './io-roles.ts'

/** Input or output of a graph, as its file or session declares it. */
export interface IoValue {
  readonly name: string
  readonly dtype: DType | undefined
  readonly shape: readonly Dim[] | undefined
}

interface Bound {
  readonly name: string
  readonly dtype: DType
}

/** A cache input; sizes that the file leaves open are undefined. */
export interface CacheBinding extends Bound, CacheRole {
  readonly heads: number | undefined
  readonly headDim: number | undefined
  /** The exporter named the length of this tensor as that of a sliding window ("past_sliding_length"). */
  readonly sliding: boolean
}

/** An input whose role is not the one its name says. */
export interface RenamedInput {
  readonly name: string
  /** Its true role: "position_ids", "the keys of layer 0". */
  readonly role: string
}

export interface Bindings {
  readonly inputIds: Bound
  readonly attentionMask: Bound | undefined
  readonly positionIds: Bound | undefined
  /** position_ids have one row for all sequences of a fixed batch. */
  readonly sharedPositions: boolean
  /** Sequences in every run, where the file fixes their number. */
  readonly batch: number | undefined
  /** Tokens of every sequence, where the file fixes their number. */
  readonly seqLen: number | undefined
  readonly logitsToKeep: (Bound & { readonly dims: readonly number[] }) | undefined
  readonly useCacheBranch: string | undefined
  readonly past: readonly CacheBinding[]
  /** Inputs whose names contradict their types and shapes, which say clearly what each of them is. */
  readonly renamed: readonly RenamedInput[]
}

const INTEGERS: readonly DType[] = ['int64', 'int32']

// Element types and ranks that belong to each role.
const EXPECTED: Record<Exclude<InputRole, CacheRole> | 'past', { dtypes: readonly DType[]; ranks: readonly number[] }> =
  {
    input_ids: { dtypes: INTEGERS, ranks: [2] },
    attention_mask: { dtypes: [...INTEGERS, 'bool'], ranks: [2] },
    position_ids: { dtypes: INTEGERS, ranks: [2] },
    num_logits_to_keep: { dtypes: INTEGERS, ranks: [0, 1] },
    use_cache_branch: { dtypes: ['bool'], ranks: [1] },
    past: { dtypes: ['float32', 'float16', 'bfloat16'], ranks: [4] },
  }

/** "past_key_values.0.key" float32 [batch_size, 4, past_sequence_length, 16] */
export function show({ name, dtype, shape }: IoValue): string {
  return `"${name}" ${dtype ?? 'of unknown type'} [${shape?.map(dim => dim ?? '?').join(', ') ?? '?'}]`
}

function roleKey(role: InputRole): keyof typeof EXPECTED {
  return typeof role === 'string' ? role : 'past'
}

const roleName = (role: InputRole): string =>
  typeof role === 'string' ? role : `the ${role.kind}s of layer ${role.layer}`

/** onnxruntime says [] for a scalar and for an unknown rank alike: [] contradicts nothing. */
function rankDiffers(shape: readonly Dim[] | undefined, ranks: readonly number[]): boolean {
  return shape !== undefined && shape.length > 0 && !ranks.includes(shape.length)
}

/** A dimension the file fixes; names, -1 and the like are not. */
function fixedDim(dim: Dim | undefined): number | undefined {
  return typeof dim === 'number' && dim > 0 ? dim : undefined
}

function contradicts({ dtype, shape }: IoValue, role: InputRole): boolean {
  const { dtypes, ranks } = EXPECTED[roleKey(role)]
  return (dtype !== undefined && !dtypes.includes(dtype)) || rankDiffers(shape, ranks)
}

interface RoleOf {
  readonly value: IoValue
  readonly role: InputRole | undefined
}

/** Tokens in a run whose shape the file fixes: 1024 sequences of 4096. */
const MAX_RUN_TOKENS = 2 ** 22

/** Inputs [batch, ..]. */
const isBatched = ({ role }: RoleOf): boolean => role !== 'num_logits_to_keep' && role !== 'use_cache_branch'

/**
 * Batch and sequence length, where the file fixes them. A single row of positions shared by all sequences fixes no batch.
 * @throws E_INPUTS when inputs fix different batches; E_TOO_LARGE for a run that no decoder has.
 */
function fixedRun(bound: readonly RoleOf[], inputIds: IoValue): Pick<Bindings, 'batch' | 'seqLen' | 'sharedPositions'> {
  const fixed = bound.filter(each => isBatched(each) && fixedDim(each.value.shape?.[0]) !== undefined)
  const sizeOf = ({ value }: RoleOf) => fixedDim(value.shape?.[0])
  const isShared = (each: RoleOf) => each.role === 'position_ids' && sizeOf(each) === 1 && fixed.length > 1
  const sizes = new Set(fixed.filter(each => !isShared(each)).map(sizeOf))
  if (sizes.size > 1)
    throw new QuantError(
      'E_INPUTS',
      `inputs are for different numbers of sequences: ${fixed.map(({ value }) => show(value)).join(', ')}`,
      'Export the model again, with one batch size or a dynamic one.',
    )
  const [batch] = sizes
  // A file made for single tokens is quantized with longer sequences, as far as its nodes allow.
  const tokens = fixedDim(inputIds.shape?.[1])
  const seqLen = tokens === 1 ? undefined : tokens
  if ((batch ?? 1) * (seqLen ?? 1) > MAX_RUN_TOKENS)
    throw new QuantError(
      'E_TOO_LARGE',
      `every run takes ${batch ?? 1} sequences of ${seqLen ?? 'some'} tokens, by the shapes of the inputs: ${show(inputIds)}`,
      'The file is damaged: export it again, with a dynamic batch and sequence length.',
    )
  return { batch, seqLen, sharedPositions: fixed.some(isShared) }
}

/**
 * Roles by shape, for files whose names are permuted: torch dynamo writes names in the order of one list and inputs in the order of
 * another. Caches are the 4-D inputs, in their own order. position_ids is as long as input_ids; attention_mask is not.
 * @returns undefined where shapes do not settle the role of every input.
 */
function bindByShape(named: readonly RoleOf[]): RoleOf[] | undefined {
  const roles = named.map(({ role }) => role)
  const inputIds = named.find(({ value, role }) => role === 'input_ids' && !contradicts(value, role))?.value
  const cacheRoles = roles.filter(role => typeof role === 'object')
  const fits = (value: IoValue, role: InputRole) =>
    value.dtype !== undefined && value.shape !== undefined && !contradicts(value, role)
  const caches = named.flatMap(({ value }) => (fits(value, cacheRoles[0] ?? 'input_ids') ? [value] : []))
  const length = inputIds?.shape?.[1]
  if (!inputIds || length === undefined || cacheRoles.length === 0 || caches.length !== cacheRoles.length)
    return undefined
  const rest = named.flatMap(({ value }) => (value !== inputIds && !caches.includes(value) ? [value] : []))
  const others = roles.filter(role => typeof role !== 'object' && role !== 'input_ids')
  const roleOf = (value: IoValue): InputRole | undefined => {
    const role = value.shape?.[1] === length ? 'position_ids' : 'attention_mask'
    return fits(value, role) && others.includes(role) ? role : undefined
  }
  const found = rest.map(roleOf)
  if (found.includes(undefined) || new Set(found).size !== found.length || found.length !== others.length)
    return undefined
  return named.map(({ value }) => ({
    value,
    role: value === inputIds ? 'input_ids' : (cacheRoles[caches.indexOf(value)] ?? found[rest.indexOf(value)]),
  }))
}

/** @throws E_INPUTS, listing every input at fault. */
export function bindInputs(inputs: readonly IoValue[], names: ReadonlyMap<string, string>): Bindings {
  const named = inputs.map((value): RoleOf => ({ value, role: inputRole(value.name, names) }))
  const wrong = named.filter(({ value, role }) => role !== undefined && contradicts(value, role))
  const byShape = wrong.length > 0 ? bindByShape(named) : undefined
  const bound = byShape ?? named
  if (wrong.length > 0 && !byShape) {
    const list = wrong.map(({ value, role }) => {
      const { dtypes, ranks } = EXPECTED[roleKey(role!)]
      return `${show(value)} (should be ${dtypes.join(' or ')} of rank ${ranks.join(' or ')})`
    })
    throw new QuantError(
      'E_INPUTS',
      `inputs whose type or shape contradicts their name: ${list.join('; ')}`,
      'Some exporters permute the names of inputs (torch dynamo with a cache does): export the model again without a ' +
        'cache, with optimum-onnx or with the onnxruntime-genai model builder.',
    )
  }
  const find = (role: InputRole) => bound.find(each => each.role === role)?.value
  const port = (value: IoValue): Bound => ({ name: value.name, dtype: value.dtype ?? 'int64' })
  const inputIds = find('input_ids')
  if (inputIds === undefined) {
    throw new QuantError(
      'E_INPUTS',
      `the model has no input "input_ids"; its inputs are ${inputs.map(show).join(', ') || 'none'}`,
      'omniquant reads decoders that start from token ids; those that start from embeddings are not supported.',
    )
  }
  const unknown = bound.filter(({ role }) => role === undefined)
  if (unknown.length > 0) {
    throw new QuantError(
      'E_INPUTS',
      `inputs that omniquant does not know what to feed: ${unknown.map(({ value }) => show(value)).join(', ')}`,
      'Export the model with the usual inputs: input_ids, attention_mask, position_ids, past_key_values.N.key/value.',
    )
  }
  const optional = (role: InputRole) => {
    const value = find(role)
    return value && port(value)
  }
  const keep = find('num_logits_to_keep')
  return {
    inputIds: port(inputIds),
    attentionMask: optional('attention_mask'),
    positionIds: optional('position_ids'),
    ...fixedRun(bound, inputIds),
    logitsToKeep: keep && { ...port(keep), dims: keep.shape?.length === 1 ? [1] : [] },
    useCacheBranch: find('use_cache_branch')?.name,
    renamed: (byShape ?? []).flatMap(({ value, role }, i) => {
      const [is, says] = [role, named[i]!.role].map(each => each && roleName(each))
      return is === undefined || is === says ? [] : [{ name: value.name, role: is }]
    }),
    past: bound.flatMap(({ value, role }) =>
      typeof role === 'object'
        ? [
            {
              ...role,
              name: value.name,
              dtype: value.dtype ?? 'float32',
              heads: fixedDim(value.shape?.[1]),
              headDim: fixedDim(value.shape?.[3]),
              sliding: String(value.shape?.[2]).includes('sliding'),
            },
          ]
        : [],
    ),
  }
}
