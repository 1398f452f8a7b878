/** @file HTML that escapes what is put into it: text is never read as markup. */

/** Markup. Only `html` and the plots make it. */
export class Html {
  readonly markup: string

  constructor(markup: string) {
    this.markup = markup
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

/** Characters that HTML does not allow, such as the terminal's escape, become the sign for a missing one. */
const CONTROLS = /[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]|\p{Surrogate}/gu

/** Text with the sign for a missing character in place of those. */
export const presentable = (text: string): string => text.replace(CONTROLS, '\ufffd')

const escaped = (text: string): string => presentable(text).replace(/[&<>"']/g, sign => ENTITIES[sign]!)

function markupOf(content: Content): string {
  if (content === undefined || content === false) return ''
  if (content instanceof Html) return content.markup
  if (typeof content === 'string' || typeof content === 'number') return escaped(String(content))
  return content.map(markupOf).join('')
}

/** Markup with contents in it: html`<p>${text}</p>`. Attributes that take contents stand in quotation marks. */
export function html(strings: TemplateStringsArray, ...contents: readonly Content[]): Html {
  return new Html(strings.reduce((all, string, i) => all + markupOf(contents[i - 1]) + string))
}
