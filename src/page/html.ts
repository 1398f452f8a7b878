/** @file HTML that escapes what is put into it: text is never read as markup. */

import { printable } from '../printable.ts'

/** Markup. Only `markup` and the plots make it. */
export class Html {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }
}

/** Things that a template takes; undefined and false are nothing. */
export type Content = string | number | Html | undefined | false | readonly Content[]

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}

const escaped = (text: string): string => printable(text).replace(/[&<>"']/g, sign => ENTITIES[sign]!)

function markupOf(content: Content): string {
  if (content === undefined || content === false) return ''
  if (content instanceof Html) return content.text
  if (typeof content === 'string' || typeof content === 'number') return escaped(String(content))
  return content.map(markupOf).join('')
}

/** Markup with contents in it: markup`<p>${text}</p>`. Attributes that take contents stand in quotation marks. */
export function markup(strings: TemplateStringsArray, ...contents: readonly Content[]): Html {
  return new Html(strings.reduce((all, string, i) => all + markupOf(contents[i - 1]) + string))
}
