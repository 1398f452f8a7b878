/** @file Vocabularies of models that are to be compared: the same tokens under the same ids, and logits of the same width. */

import { statSync } from 'node:fs'
import { findFile, type Json, member, modelFolders, readJsonFile } from '../decoder/model-folder.ts'
import { QuantError } from '../errors.ts'
import { readBounded } from '../files/bounded-file.ts'
import type { Graph } from '../graph/ir.ts'

/** A model with the width of its logits. */
export interface Width {
  readonly model: string
  readonly vocabulary: number
}

const HINT = 'Figures compare only between models that read the same tokens: give models of one vocabulary.'

/** The error about models whose logits differ in width. */
export function vocabularyError(a: Width, b: Width): QuantError {
  return new QuantError(
    'E_VOCABULARY',
    `the vocabularies differ: ${a.model} gives logits for ${a.vocabulary} tokens, ${b.model} for ${b.vocabulary}`,
    HINT,
  )
}

/** Width of the logits as the graph states it; undefined where it does not. */
export function statedWidth(graph: Graph, logits: string): number | undefined {
  const width = graph.outputs.find(({ name }) => name === logits)?.shape?.at(-1)
  return typeof width === 'number' && width > 0 ? width : undefined
}

/** Refuses models whose graphs state logits of different widths. @throws E_VOCABULARY */
export function checkStatedWidths(
  models: readonly { readonly model: string; readonly vocabulary?: number | undefined }[],
): void {
  const stated = models.filter((each): each is Width => each.vocabulary !== undefined)
  const other = stated.find(({ vocabulary }) => vocabulary !== stated[0]!.vocabulary)
  if (other) throw vocabularyError(stated[0]!, other)
}

/** The largest tokenizer.json has 33 MB. */
const MAX_BYTES = 64 * 2 ** 20

/** The tokenizer.json beside a model, or in a folder. */
export function tokenizerFile(path: string): string | undefined {
  return findFile(modelFolders(path), 'tokenizer.json')
}

/** Ids by token. Empty where the file is of a kind that does not list them. */
function idsOf(file: string): Map<string, number> {
  const json = readJsonFile(file, 'E_TOKENIZER')
  const vocabulary = member(json, 'model', 'vocab')
  const ids = new Map<string, number>()
  const add = (token: Json | undefined, id: Json | undefined): void => {
    if (typeof token === 'string' && typeof id === 'number') ids.set(token, id)
  }
  // A Unigram model has a list of [token, score]; the others have an object of ids.
  if (Array.isArray(vocabulary)) vocabulary.forEach((row, id) => add(Array.isArray(row) ? row[0] : undefined, id))
  else if (typeof vocabulary === 'object' && vocabulary !== null)
    for (const [token, id] of Object.entries(vocabulary)) add(token, id)
  const added = member(json, 'added_tokens')
  if (Array.isArray(added)) for (const row of added) add(member(row, 'content'), member(row, 'id'))
  return ids
}

/**
 * Refuses tokenizers that give a token different ids. Merges and normalizers are not compared: with the same ids, a token sequence means the
 * same to both.
 * @param files tokenizer.json files.
 * @throws E_VOCABULARY; E_TOKENIZER when one is not JSON.
 */
export function checkSameTokens(files: readonly string[]): void {
  const [first, ...others] = [...new Set(files)]
  if (first === undefined) return
  const bytes = (file: string) => Buffer.from(readBounded(file, MAX_BYTES))
  const isSame = (file: string) => statSync(file).size === statSync(first).size && bytes(file).equals(bytes(first))
  const different = others.filter(file => !isSame(file))
  if (different.length === 0) return
  const ids = idsOf(first)
  for (const file of different) {
    const theirs = idsOf(file)
    if (ids.size === 0 || theirs.size === 0) continue
    const show = (id: number | undefined) => (id === undefined ? 'absent' : String(id))
    for (const [mine, other] of [
      [ids, theirs],
      [theirs, ids],
    ] as const)
      for (const token of mine.keys()) {
        if (mine.get(token) === other.get(token)) continue
        throw new QuantError(
          'E_VOCABULARY',
          `the vocabularies differ: token ${JSON.stringify(token)} is ${show(ids.get(token))} in ${first} and ${show(theirs.get(token))} in ${file}`,
          HINT,
        )
      }
  }
}
