/** @file Door to Observable Plot: a plot as SVG, drawn without a browser. The same options give the same text. */

import * as Plot from '@observablehq/plot'
import { parseHTML } from 'linkedom'
import { printable } from '../printable.ts'
import { Html } from './html.ts'

export { Plot }

/** Width of a plot that fills a page, in pixels. */
export const FULL_WIDTH = 950

/** Least width of a plot on a narrow page, where it scrolls: of one that fills a page, and of a smaller one. */
const leastWidth = (width: number): number => (width > 640 ? 640 : Math.min(width, 330))

const FONT_SIZE = 12

/** Decimals of a coordinate: a hundredth of a pixel is not seen. */
const DECIMALS = 2

const COORDINATES = /\b(d|transform|x|y|x1|x2|y1|y2|cx|cy|width|height)="([^"]*)"/g

const shortened = (svg: string): string =>
  svg.replace(
    COORDINATES,
    (_, name: string, value: string) =>
      `${name}="${value.replace(/-?\d+\.\d+(e-\d+)?/g, number => String(Number(Number(number).toFixed(DECIMALS))))}"`,
  )

/** Part of an element that is read or changed here. */
interface Drawn {
  readonly outerHTML: string
  querySelector(name: string): { remove(): void } | null
  setAttribute(name: string, value: string): void
}

/**
 * The plot as an image of one name, as wide as it is said to be where there is room. Colours may be variables of the page:
 * `var(--accent)`.
 */
export function draw(name: string, options: Plot.PlotOptions): Html {
  const { document } = parseHTML('<!doctype html><html><body></body></html>')
  const width = options.width ?? FULL_WIDTH
  const all: Plot.PlotOptions = { ...options, width, className: 'plot', ariaLabel: name }
  const svg = Plot.plot({ ...all, document: document as never }) as unknown as Drawn
  // Plot's own sheet is for pages that have none.
  svg.querySelector('style')?.remove()
  svg.setAttribute('role', 'img')
  svg.setAttribute('font-family', 'inherit')
  svg.setAttribute('font-size', String(FONT_SIZE))
  svg.setAttribute('style', `width:min(100%,${width}px);min-width:${leastWidth(width)}px`)
  return new Html(printable(shortened(svg.outerHTML)))
}
