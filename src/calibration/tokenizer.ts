/** @file A model's own tokenizer, by @huggingface/tokenizers; nobody else imports that package. Knows no files of text. */

import { statSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers'
import { findFile, type Json, member, modelFolders, readJsonFile, readModelConfig } from '../decoder/model-folder.ts'
import { messageOf, QuantError } from '../errors.ts'

export interface EncodeOptions {
  /** Put the id of the begin-of-text token first (when the model has one). Off by default. */
  readonly bos?: boolean
  /** Add the special tokens that the tokenizer's own template adds to a text, as prompts have them. Off by default. */
  readonly special?: boolean
}

export interface Tokenizer {
  /** Token ids of a text. Special tokens written out in the text count as such; none are added unless asked for. @throws E_TOKENIZER */
  encode(text: string, options?: EncodeOptions): number[]
  /** Text of token ids, special tokens included; ids the tokenizer does not have are left out. @throws E_TOKENIZER */
  decode(ids: readonly number[]): string
  readonly bosTokenId: number | undefined
  readonly eosTokenId: number | undefined
}

const IDS_HINT = 'Give token ids instead: an .npy file (int64, [tokens] or [samples, tokens]) or .jsonl lines of ids.'

// Spellings of the begin-of-text and end-of-text tokens, for tokenizers that come without a word on which they are.
const BOS_SPELLINGS = ['<s>', '<|begin_of_text|>', '<bos>', '<|startoftext|>', '<|endoftext|>']

const EOS_SPELLINGS = ['</s>', '<|end_of_text|>', '<eos>', '<|endoftext|>']

/** 'bos_token' is a string, or an object with its `content`, or null. */
function spelling(json: Json | undefined): string | undefined {
  const text = typeof json === 'object' ? member(json, 'content') : json
  return typeof text === 'string' ? text : undefined
}

/** The parts of the library's Unigram model that the work-around below needs. */
interface UnigramModel {
  encode(tokens: readonly string[]): string[]
  tokenize(token: string): string[]
}

/**
 * The library appends the pieces of a word with `push(...pieces)`: a text without word boundaries, which is what
 * SentencePiece tokenizers see, overflows the stack from about 100 000 pieces on. The same loop without the spread.
 */
function avoidStackOverflow(library: HuggingFaceTokenizer): void {
  const model = library.model as unknown as UnigramModel
  if (typeof model?.tokenize !== 'function') return
  model.encode = tokens => tokens.flatMap(token => model.tokenize(token))
}

/**
 * The tokenizer beside a model.
 * @param path the model file, its folder, or a tokenizer.json; for `onnx/model.onnx` the folder above is searched too.
 * @throws E_TOKENIZER when there is none, or the library cannot use it.
 */
export function loadTokenizer(path: string): Tokenizer {
  const folders = modelFolders(path)
  const file = basename(path) === 'tokenizer.json' ? path : findFile(folders, 'tokenizer.json')
  if (file === undefined || statSync(file, { throwIfNoEntry: false })?.isFile() !== true) {
    const legacy = findFile(folders, 'tokenizer.model')
    const found = legacy === undefined ? '' : ` (only ${legacy}, which cannot be read)`
    throw new QuantError('E_TOKENIZER', `no tokenizer.json in ${folders.join(' or ')}${found}`, IDS_HINT)
  }
  const description = readJsonFile(file, 'E_TOKENIZER')
  const load = (name: string): Json | undefined => {
    const beside = findFile([dirname(file)], name)
    return beside === undefined ? undefined : readJsonFile(beside, 'E_TOKENIZER')
  }
  const config = load('tokenizer_config.json')

  let library: HuggingFaceTokenizer
  try {
    library = new HuggingFaceTokenizer(description as object, (config ?? {}) as object)
    avoidStackOverflow(library)
  } catch (error) {
    throw new QuantError('E_TOKENIZER', `cannot use ${file}: ${messageOf(error)}`, IDS_HINT, { cause: error })
  }

  const specialTokens = load('special_tokens_map.json')
  const modelConfig = readModelConfig([...new Set([...folders, dirname(file)])])
  const idOf = (token: string | undefined) => (token === undefined ? undefined : library.token_to_id(token))
  const special = (key: string, configured: number | undefined, spellings: readonly string[]) =>
    idOf(spelling(member(config, key))) ??
    idOf(spelling(member(specialTokens, key))) ??
    configured ??
    spellings.map(idOf).find(id => id !== undefined)
  return wrap(library, file, {
    bosTokenId: special('bos_token', modelConfig.bosTokenId, BOS_SPELLINGS),
    eosTokenId: special('eos_token', modelConfig.eosTokenId, EOS_SPELLINGS),
  })
}

function wrap(
  library: HuggingFaceTokenizer,
  file: string,
  special: Pick<Tokenizer, 'bosTokenId' | 'eosTokenId'>,
): Tokenizer {
  return {
    ...special,
    encode(text, { bos = false, special: ownTemplate = false } = {}) {
      // In one go: cutting the text first would change tokens at the cuts for some tokenizers, and a megabyte takes
      // 1 s (byte-level BPE) to 6 s (SentencePiece-style, where the whole text is a single word).
      let ids: number[]
      try {
        ids = library.encode(text, { add_special_tokens: ownTemplate }).ids
      } catch (error) {
        throw new QuantError('E_TOKENIZER', `${file} cannot encode the text: ${messageOf(error)}`, IDS_HINT)
      }
      if (!ids.every(id => Number.isSafeInteger(id) && id >= 0)) {
        throw new QuantError('E_TOKENIZER', `${file} has no token for a part of the text, not even an unknown-token`)
      }
      return bos && special.bosTokenId !== undefined ? [special.bosTokenId, ...ids] : ids
    },
    decode(ids) {
      const known = ids.filter(id => library.id_to_token(id) !== undefined)
      if (known.length === 0) return '' // the library refuses an empty list
      // Its default also removes spaces before punctuation, which would not be the text any more.
      try {
        return library.decode(known, { skip_special_tokens: false, clean_up_tokenization_spaces: false })
      } catch (error) {
        throw new QuantError('E_TOKENIZER', `${file} cannot decode its tokens: ${messageOf(error)}`, IDS_HINT)
      }
    },
  }
}
