/** @file A page as a whole: one file that asks nobody for anything. */

import { type Content, Html, markup } from './html.ts'
import { type Section, section } from './parts.ts'
import { STYLE } from './style.ts'

export interface Page {
  readonly title: string
  /** Line above the title. */
  readonly kind: string
  /** Sentences that say the result. */
  readonly lead: Content
  readonly tiles: Html
  readonly sections: readonly Section[]
  readonly foot: Content
}

/** Forbids requests and scripts, also those that a browser would add. */
const POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"

/** An icon, so that browsers ask for none. */
const ICON = 'data:,'

/** The page as a file. */
export function documentOf({ title, kind, lead, tiles, sections, foot }: Page): string {
  const links = sections.map(({ id, title }) => markup`<li><a href="#${id}">${title}</a></li>\n`)
  return markup`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="${POLICY}">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="${ICON}">
<title>${title}</title>
<style>${new Html(STYLE)}</style>
</head>
<body>
<a class="skip" href="#content">To the content</a>
<header><p class="kind">${kind}</p><h1>${title}</h1><p class="lead">${lead}</p>
<nav aria-label="Sections"><ul>${links}</ul></nav>
</header>
<main id="content" tabindex="-1">
${tiles}${sections.map(section)}</main>
<footer>${foot}</footer>
</body>
</html>
`.text
}
