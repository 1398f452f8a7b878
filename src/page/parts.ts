/** @file Parts that pages are put together from: sections, figures with their tables, tiles, lists of facts. */

import { type Content, html, type Html } from './html.ts'

/** A column of a table. */
export interface Column<Row> {
  readonly name: Content
  readonly of: (row: Row) => Content
  /** Text stands left, numbers right. */
  readonly text?: true
}

/** A table that scrolls inside itself, also with the keyboard. @param name for those who do not see it. */
export const table = <Row>(name: string, rows: readonly Row[], columns: readonly Column<Row>[]): Html =>
  html` <div class="scroll" role="region" aria-label="${name}" tabindex="0">
    <table>
      <thead>
        <tr>
          ${columns.map(({ name, text }) => html`<th scope="col" ${text && LEFT}>${name}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${rows.map(
          row =>
            html`<tr>
              ${columns.map(({ of, text }, i) => (i === 0 ? html`<th scope="row" ${text && LEFT}>${of(row)}</th>` : html`<td${text && LEFT}>${of(row)}</td>`))}
            </tr> `,
        )}
      </tbody>
    </table>
  </div>`

const LEFT = html` class="text"`

/** A plot or a table that can be opened. */
export const details = (summary: Content, content: Content): Html =>
  html`<details>
    <summary>${summary}</summary>
    ${content}
  </details>`

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
  html` <figure>
    ${legend && html`<div class="legend">${legend}</div>`}
    <div class="scroll" role="region" aria-label="${name}" tabindex="0">${plot}</div>
    ${details('The numbers as a table', table)}
  </figure>`

/** A sign and its meaning. @param sign class of its look. */
export const key = (sign: string, meaning: Content): Html =>
  html`<span class="key"><i class="${sign}"></i>${meaning}</span>`

export interface Section {
  /** Anchor. */
  readonly id: string
  readonly title: string
  /** Sentences that say what is seen. */
  readonly says?: Content
  readonly content: Content
}

export const section = ({ id, title, says, content }: Section): Html =>
  html` <section aria-labelledby="${id}">
    <h2 id="${id}">${title}</h2>
    ${says && html`<p class="says">${says}</p>`} ${content}
  </section>`

/** A number that matters most. */
export interface Tile {
  readonly name: string
  readonly value: Content
  readonly note?: Content
}

export const tiles = (all: readonly Tile[]): Html =>
  html` <dl class="tiles">
    ${all.map(
      ({ name, value, note }) =>
        html`<div>
          <dt>${name}</dt>
          <dd>${value}${note && html`<small>${note}</small>`}</dd>
        </div>`,
    )}
  </dl>`

/** Names and values; those without a value are left out. */
export const facts = (rows: readonly (readonly [name: string, value: Content])[]): Html =>
  html` <dl class="facts">
    ${rows.map(
      ([name, value]) =>
        value !== undefined &&
        value !== false &&
        html`<dt>${name}</dt>
          <dd>${value}</dd>`,
    )}
  </dl>`
