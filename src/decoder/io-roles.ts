/** @file Roles of a model's inputs and outputs, by name. Knows neither types nor graphs. */

export type CacheKind = 'key' | 'value'

/** One tensor of the KV cache: of which layer, and keys or values. */
export interface CacheRole {
  readonly layer: number
  readonly kind: CacheKind
}

export type InputRole =
  'input_ids' | 'attention_mask' | 'position_ids' | 'num_logits_to_keep' | 'use_cache_branch' | CacheRole

const FIXED = ['input_ids', 'attention_mask', 'position_ids', 'num_logits_to_keep', 'use_cache_branch'] as const

/** genai_config.json's name of a role, `%d` standing for the layer, as a pattern. */
function pattern(template: string): RegExp {
  const literal = template.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
  return new RegExp(`^${literal.replace('%d', '(\\d+)')}$`)
}

function configuredCache(name: string, names: ReadonlyMap<string, string>, side: 'past' | 'present') {
  for (const kind of ['key', 'value'] as const) {
    const template = names.get(`${side}_${kind}_names`)
    const layer = template?.includes('%d') ? pattern(template).exec(name)?.[1] : undefined
    if (layer !== undefined) return { layer: Number(layer), kind }
  }
  return undefined
}

// "past_key_values.3.key", "past_key_3", "present.3.value", "present_key_values.3.key", "past.3.k"; but not
// "past_key_values.3.encoder.key", which is a cache of another kind.
const CACHE_NAME = /^(past|present)(?:_key_values?)?[._/](?:(\d+)[._/](key|value|k|v)|(key|value|k|v)[._/](\d+))$/

function cacheByHabit(name: string, side: 'past' | 'present'): CacheRole | undefined {
  const match = CACHE_NAME.exec(name)
  if (match?.[1] !== side) return undefined
  const kind = (match[3] ?? match[4])!.startsWith('k') ? 'key' : 'value'
  return { layer: Number(match[2] ?? match[5]), kind }
}

/** The role of an input; `names` are those of genai_config.json, which go first. */
export function inputRole(name: string, names: ReadonlyMap<string, string>): InputRole | undefined {
  const configured = FIXED.find(role => names.get(role) === name)
  if (configured) return configured
  const fixed = FIXED.find(role => role === name) ?? (name === 'logits_to_keep' ? 'num_logits_to_keep' : undefined)
  return fixed ?? configuredCache(name, names, 'past') ?? cacheByHabit(name, 'past')
}

/** The part of the cache that an output holds. */
export function presentRole(name: string, names: ReadonlyMap<string, string>): CacheRole | undefined {
  return configuredCache(name, names, 'present') ?? cacheByHabit(name, 'present')
}
