/** @file Tokens that come one by one -> pieces of text. Knows no model. */

import type { Tokenizer } from './tokenizer.ts'

/** Tokens before a new one that are decoded with it: spaces depend on what stands before. */
const CONTEXT_TOKENS = 5

/** Sign of bytes that are not a whole character yet. */
const INCOMPLETE = '\u{FFFD}'

/**
 * Text of a growing sequence. A token may be a part of a character, and decoders drop the space before the first word; so a piece is the
 * difference of two texts, with and without the new tokens, and is held back while it ends inside a character.
 */
export class TextStream {
  private readonly decode: Tokenizer['decode']
  private readonly ids: number[]
  /** First token that is decoded, and first token that is not written yet. */
  private from: number
  private written: number

  /** @param prompt tokens before those that come. */
  constructor({ decode }: Pick<Tokenizer, 'decode'>, prompt: readonly number[]) {
    this.decode = decode
    this.ids = [...prompt]
    this.written = prompt.length
    this.from = Math.max(0, prompt.length - CONTEXT_TOKENS)
  }

  /** Text that a token adds; empty while a character is not complete. */
  add(token: number): string {
    this.ids.push(token)
    return this.next(false)
  }

  /** Text that is held back at the end. */
  end(): string {
    return this.written === this.ids.length ? '' : this.next(true)
  }

  private next(isEnd: boolean): string {
    const before = this.decode(this.ids.slice(this.from, this.written))
    const after = this.decode(this.ids.slice(this.from))
    if (!isEnd && after.endsWith(INCOMPLETE)) return ''
    this.from = this.written
    this.written = this.ids.length
    return after.slice(before.length)
  }
}
