/** @file Parts that pages are put together from: sections, figures with their tables, tiles, lists of facts. */

import { type Content, type Html, markup } from './html.ts'

/** A column of a table. */
export interface Column<Row> {
  readonly name: Content
  readonly of: (row: Row) => Content
  /** Text stands left, numbers right. */
  readonly text?: true
}

const LEFT: Html = markup` class="text"`

/** A table that scrolls inside itself, also with the keyboard. @param name for those who do not see it. */
export function table<Row>(name: string, rows: readonly Row[], columns: readonly Column<Row>[]): Html {
  const cell = (row: Row, { of, text }: Column<Row>, i: number): Html =>
    i === 0 ? markup`<th scope="row"${text && LEFT}>${of(row)}</th>` : markup`<td${text && LEFT}>${of(row)}</td>`
  return markup`<div class="scroll" role="region" aria-label="${name}" tabindex="0"><table>
<thead><tr>${columns.map(({ name, text }) => markup`<th scope="col"${text && LEFT}>${name}</th>`)}</tr></thead>
<tbody>
${rows.map(row => markup`<tr>${columns.map((column, i) => cell(row, column, i))}</tr>\n`)}</tbody>
</table></div>`
}

/** Something that can be opened. */
export const details = (summary: Content, content: Content): Html =>
  markup`<details><summary>${summary}</summary>${content}</details>\n`

export interface Figure {
  /** Name of the plot, for those who do not see it. */
  readonly name: string
  readonly plot: Html
  /** Meaning of colours and marks. */
  readonly legend?: Content
  /** The same numbers. */
  readonly table: Html
}

/** A plot that scrolls inside itself where it is too wide, and its numbers as a table. */
export const figure = ({ name, plot, legend, table }: Figure): Html =>
  markup`<figure>${legend && markup`<div class="legend">${legend}</div>`}
<div class="scroll" role="region" aria-label="${name}" tabindex="0">${plot}</div>
${details('The numbers as a table', table)}</figure>
`

/** A sign and its meaning. @param sign class of its look. */
export const key = (sign: string, meaning: Content): Html =>
  markup`<span class="key"><i class="${sign}"></i>${meaning}</span>`

export interface Section {
  /** Anchor. */
  readonly id: string
  readonly title: string
  /** Sentences that say what is seen. */
  readonly says?: Content
  readonly content: Content
}

export const section = ({ id, title, says, content }: Section): Html =>
  markup`<section aria-labelledby="${id}"><h2 id="${id}">${title}</h2>
${says && markup`<p class="says">${says}</p>\n`}${content}</section>
`

/** A number that matters most. */
export interface Tile {
  readonly name: string
  readonly value: Content
  readonly note?: Content
}

export const tiles = (all: readonly Tile[]): Html =>
  markup`<dl class="tiles">${all.map(
    ({ name, value, note }) =>
      markup`<div><dt>${name}</dt><dd>${value}${note && markup`<small>${note}</small>`}</dd></div>`,
  )}</dl>
`

/** Names and values; those without a value are left out. */
export const facts = (rows: readonly (readonly [name: string, value: Content])[]): Html =>
  markup`<dl class="facts">${rows.map(
    ([name, value]) => value !== undefined && value !== false && markup`<dt>${name}</dt><dd>${value}</dd>\n`,
  )}</dl>
`
