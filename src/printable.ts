/** @file Text that cannot steer a terminal. Knows no other file. */

// Controls (ESC and its one-byte forms among them), what turns the direction of writing, and line ends other than \n.
const STEERING = /(?!\n)[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}]/gu

const escaped = (char: string): string => `\\u${char.codePointAt(0)!.toString(16).padStart(4, '0')}`

/**
 * The text with everything that would steer a terminal written as an escape, such as \u001b; line ends stay.
 * A JSON document stays the same document: it has such characters in strings only, where they may be written so.
 */
export const printable = (text: string): string => text.replace(STEERING, escaped)

/** The same in one line: for names in tables and lists, where a line end would make up a line of its own. */
export const printableLine = (text: string): string => printable(text).replaceAll('\n', '\\u000a')
