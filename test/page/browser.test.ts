/** @file Pages of reports in a browser: no complaint, no request, no scrolling to the side, light and dark. */

import { join } from 'node:path'
import { writeFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { describe, expect, test } from 'vitest'
import { unless } from '../helpers/unless.ts'
import { reportPage } from '../../src/page/report-page.ts'
import { chromium, look } from '../helpers/chromium.ts'
import { evaluateReport, quantizeReport } from '../helpers/sample-reports.ts'
import { tempDir } from '../helpers/temp-dir.ts'

const VIEWS = [
  { width: 390, scheme: 'light' },
  { width: 390, scheme: 'dark' },
  { width: 1200, scheme: 'light' },
  { width: 1200, scheme: 'dark' },
] as const

/** Colours of the page, and what the first press of Tab reaches. */
const LOOKS = `(() => {
  const { backgroundColor, color } = getComputedStyle(document.body)
  const heat = document.querySelector('svg rect') && getComputedStyle(document.querySelector('svg rect')).fill
  return { backgroundColor, color, heat, opened: [...document.querySelectorAll('details')].length }
})()`

const PAGES = { quantize: quantizeReport(32), evaluate: evaluateReport() }

const folder = tempDir()

describe(
  'in Chromium',
  unless(chromium === undefined ? 'there is no Chromium here (CHROMIUM says where it is)' : undefined),
  () => {
    test.each(Object.entries(PAGES))(
      '%s',
      async (name, report) => {
        const file = join(folder, `${name}.html`)
        writeFileSync(file, reportPage(report))
        const url = pathToFileURL(file).href
        const seen = await look(url, VIEWS, LOOKS)
        for (const { complaints, requests, contentWidth, windowWidth, picture } of seen) {
          expect(complaints).toEqual([])
          expect(requests).toEqual([url])
          expect(contentWidth).toBeLessThanOrEqual(windowWidth)
          expect(picture.length).toBeGreaterThan(10_000)
        }
        expect(seen.map(({ windowWidth }) => windowWidth)).toEqual(VIEWS.map(({ width }) => width))
        const [light, dark] = seen.map(({ value }) => value as Record<string, string>)
        expect(light!['backgroundColor']).not.toBe(dark!['backgroundColor'])
        expect(light!['color']).not.toBe(dark!['color'])
        // Colours in plots follow the page's.
        expect(light!['heat']).toMatch(/^rgb/)
        expect(light!['heat']).not.toBe(dark!['heat'])
      },
      120_000,
    )
  },
)
