/** @file Tokens that end a text, from the JSON files beside a model. Knows no graph. */

import { findFile, type Json, member, readJsonFile } from './model-folder.ts'

/** Ids of one entry: a number, or a list of them as Llama 3 has it. */
const idsIn = (json: Json | undefined): number[] =>
  (Array.isArray(json) ? json : [json]).filter((id): id is number => typeof id === 'number' && Number.isSafeInteger(id))

/**
 * The end-of-sequence tokens of the first file that names any: generation_config.json, then genai_config.json, then config.json, as
 * generation of Hugging Face's models looks for them.
 * @param folders where the files may be, nearest first.
 * @throws E_INPUTS when one of the files is not JSON.
 */
export function stopTokens(folders: readonly string[]): number[] {
  const load = (name: string): Json | undefined => {
    const path = findFile(folders, name)
    return path === undefined ? undefined : readJsonFile(path, 'E_INPUTS')
  }
  const config = load('config.json')
  const entries = [
    member(load('generation_config.json'), 'eos_token_id'),
    member(load('genai_config.json'), 'model', 'eos_token_id'),
    member(config, 'eos_token_id') ?? member(config, 'text_config', 'eos_token_id'),
  ]
  return entries.map(idsIn).find(ids => ids.length > 0) ?? []
}
