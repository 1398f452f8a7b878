/** @file The JSON files beside a model: special tokens, sizes, names of inputs and outputs. Knows no graph. */

import { existsSync, statSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { messageOf, QuantError } from '../errors.ts'
import { readBounded } from '../files/bounded-file.ts'
import { diskError } from '../files/disk-errors.ts'

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

/** The largest tokenizer.json, with 262 144 tokens, has 33 MB; as objects JSON takes up to thirty times as much. */
const MAX_JSON_BYTES = 64 * 2 ** 20

/** @throws E_INPUTS when the system does not say: of a folder taken for a file, the files of another model would be read. */
function isFolder(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false
  } catch (error) {
    throw diskError(`cannot read ${path}`, error, 'E_INPUTS')
  }
}

/**
 * Folders to search for the files of a model, nearest first: its own, and the one above if its own is the `onnx/` folder of the
 * transformers.js layout.
 * @param path a model file, or a folder.
 */
export function modelFolders(path: string): string[] {
  const absolute = resolve(path)
  const own = isFolder(absolute) ? absolute : dirname(absolute)
  return basename(own) === 'onnx' ? [own, dirname(own)] : [own]
}

/** The first of the folders' files of this name. */
export function findFile(folders: readonly string[], name: string): string | undefined {
  return folders.map(folder => join(folder, name)).find(path => existsSync(path))
}

/** @throws E_TOKENIZER or the given code when the file is not JSON. */
export function readJsonFile(path: string, code: 'E_TOKENIZER' | 'E_INPUTS'): Json {
  try {
    return JSON.parse(Buffer.from(readBounded(path, MAX_JSON_BYTES)).toString('utf8')) as Json
  } catch (error) {
    throw new QuantError(code, `cannot read ${path}: ${messageOf(error)}`, 'Copy or download the file again.')
  }
}

/** A member of nested objects, `undefined` as soon as one is missing: `member(json, 'model', 'decoder', 'head_size')`. */
export function member(json: Json | undefined, ...keys: readonly string[]): Json | undefined {
  let current = json
  for (const key of keys) {
    if (current === null || typeof current !== 'object' || Array.isArray(current)) return undefined
    current = Object.hasOwn(current, key) ? current[key] : undefined
  }
  return current
}

/** A count or an id; the first one where a file gives several, as Llama 3 does for eos_token_id. */
function wholeNumber(json: Json | undefined): number | undefined {
  const value = Array.isArray(json) ? json[0] : json
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : undefined
}

/** Facts from the configuration files beside a model; every member may be unknown. */
export interface ModelConfig {
  readonly bosTokenId?: number | undefined
  readonly eosTokenId?: number | undefined
  readonly vocabSize?: number | undefined
  /** Longest sequence, in tokens, that the model was made for. */
  readonly maxPositions?: number | undefined
  /** Width of one attention head in the KV cache. */
  readonly headSize?: number | undefined
  /** Positions that a sliding-window layer looks back. */
  readonly slidingWindow?: number | undefined
  /** genai_config.json's names of inputs and outputs, `%d` standing for the layer. */
  readonly names: ReadonlyMap<string, string>
}

/**
 * Reads genai_config.json, generation_config.json and config.json where they exist.
 * @throws E_INPUTS when one of them is not JSON.
 */
export function readModelConfig(folders: readonly string[]): ModelConfig {
  const load = (name: string): Json | undefined => {
    const path = findFile(folders, name)
    return path === undefined ? undefined : readJsonFile(path, 'E_INPUTS')
  }
  const genai = member(load('genai_config.json'), 'model')
  const generation = load('generation_config.json')
  const outer = load('config.json')
  // Models that also see images keep the language model's numbers one level down.
  const config = member(outer, 'text_config') ?? outer

  const firstOf = (...candidates: (Json | undefined)[]) => candidates.map(wholeNumber).find(n => n !== undefined)
  // A size of 0 in a file means that the size is unknown.
  const sizeOf = (...candidates: (Json | undefined)[]) => firstOf(...candidates.filter(size => size !== 0))
  const vocabSize = sizeOf(member(genai, 'vocab_size'), member(config, 'vocab_size'))
  // A default that was never adapted to the vocabulary (GPT-2's 50256 in a small model) is not an id of this model.
  const token = (key: string) => {
    const id = firstOf(member(generation, key), member(genai, key), member(config, key))
    return id === undefined || (vocabSize !== undefined && id >= vocabSize) ? undefined : id
  }
  const lengths = [
    member(genai, 'context_length'),
    ...['max_position_embeddings', 'n_positions', 'n_ctx', 'max_seq_len'].map(key => member(config, key)),
  ]
  const names = new Map<string, string>()
  for (const side of ['inputs', 'outputs']) {
    const table = member(genai, 'decoder', side)
    if (table === undefined || table === null || typeof table !== 'object' || Array.isArray(table)) continue
    for (const [role, name] of Object.entries(table)) if (typeof name === 'string') names.set(role, name)
  }
  return {
    bosTokenId: token('bos_token_id'),
    eosTokenId: token('eos_token_id'),
    vocabSize,
    maxPositions: sizeOf(...lengths),
    headSize: sizeOf(member(genai, 'decoder', 'head_size')),
    slidingWindow: firstOf(member(genai, 'decoder', 'sliding_window', 'window_size'), member(config, 'sliding_window')),
    names,
  }
}
