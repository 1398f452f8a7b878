/** @file Pages of reports: sound markup, nothing from elsewhere, everything in words and tables too, the same bytes always. */

import { parseHTML } from 'linkedom'
import { describe, expect, test } from 'vitest'
import type { QuantizeResult } from '../../src/engine/messages.ts'
import { reportPage } from '../../src/page/report-page.ts'
import { evaluateReport, quantizeReport } from '../helpers/sample-reports.ts'

/** As JSON gives it: numbers that are not finite are null. */
function withOddNumbers(report: QuantizeResult): QuantizeResult {
  const odd = report.blocks.map(block => ({
    ...block,
    roundedLoss: [0, NaN, Infinity, 1][block.index],
    learnedLoss: [0, 1, NaN, 0][block.index],
    losses: { steps: 3, window: 1, means: [0, NaN, 0] },
    figures: block.figures!.map(linear => ({
      ...linear,
      error: { rounded: 0.5, learned: block.index === 0 ? 0 : 0.5 },
    })),
    elapsedMs: 0,
  }))
  return JSON.parse(JSON.stringify({ ...report, blocks: odd })) as QuantizeResult
}

const PAGES = {
  quantize: reportPage(quantizeReport(), { command: 'omniquant quantize m --w2a16g64' }),
  'quantize, many blocks': reportPage(quantizeReport(80)),
  'quantize, rounded without running': reportPage({
    ...quantizeReport(),
    blocks: [{ index: 0, linears: ['layers.0.q_proj'], mappings: [], elapsedMs: 12 }],
    outer: [],
    notes: [],
    skipped: [],
  }),
  'quantize, numbers that are zero, equal or not finite': reportPage(withOddNumbers(quantizeReport())),
  evaluate: reportPage(evaluateReport()),
  'evaluate, one model': reportPage({
    ...evaluateReport(),
    others: undefined,
    against: undefined,
    divergence: undefined,
    ratio: undefined,
  }),
}

const VOID = new Set(['meta', 'link', 'br'])

/** Tags that are not closed where they are opened. Text never holds a "<": it is escaped. */
function unclosed(page: string): string[] {
  const open: string[] = []
  const problems: string[] = []
  for (const [, closing, name, attributes] of page
    .replace(/^<!doctype html>/, '')
    .matchAll(/<(\/?)([\w-]+)([^<>]*)>/g)) {
    if (closing) {
      if (open.pop() !== name) problems.push(`</${name}>`)
    } else if (!VOID.has(name!) && !attributes!.trimEnd().endsWith('/')) open.push(name!)
  }
  return [...problems, ...open]
}

const documentOf = (page: string) => parseHTML(page).document

describe.each(Object.entries(PAGES))('%s', (_, page) => {
  test('tags are closed in order, and ids are there once', () => {
    expect(unclosed(page)).toEqual([])
    const content = page.replace(/^<!doctype html>|<style>[^<]*<\/style>/g, '')
    expect(content.replace(/<(\/?)([\w-]+)([^<>]*)>/g, '')).not.toMatch(/[<>]/)
    const ids = [...documentOf(page).querySelectorAll('[id]')].map(({ id }) => id)
    expect(new Set(ids).size).toBe(ids.length)
  })

  test('nothing is asked of anybody, and nothing runs', () => {
    expect(page).not.toMatch(/https?:|url\(|@import|srcset|<script|<iframe|<object|<img|\son\w+=/i)
    for (const element of documentOf(page).querySelectorAll('[src],[href]'))
      expect(element.getAttribute('href')).toMatch(/^(#|data:,$)/)
  })

  test('links lead to places of the page, and headings follow each other', () => {
    const document = documentOf(page)
    for (const link of document.querySelectorAll('a'))
      expect(document.querySelector(link.getAttribute('href')!)).not.toBeNull()
    const levels = [...document.querySelectorAll('h1,h2,h3')].map(({ tagName }) => Number(tagName[1]))
    expect(levels[0]).toBe(1)
    levels.slice(1).forEach((level, i) => expect(level - levels[i]!).toBeLessThanOrEqual(1))
  })

  test('each plot has a name and its numbers as a table; what scrolls can be reached by keyboard', () => {
    const document = documentOf(page)
    for (const svg of document.querySelectorAll('svg')) {
      expect(svg.getAttribute('role')).toBe('img')
      expect(svg.getAttribute('aria-label')).toMatch(/\w{4}/)
      expect(svg.outerHTML).not.toMatch(/NaN|undefined|Infinity/)
    }
    for (const figure of document.querySelectorAll('figure'))
      expect(figure.querySelectorAll('details tbody tr').length).toBeGreaterThan(0)
    for (const table of document.querySelectorAll('table')) {
      expect(table.parentElement!.getAttribute('tabindex')).toBe('0')
      expect(table.parentElement!.getAttribute('aria-label')).toMatch(/\w{4}/)
    }
  })

  test('nothing is left without a value', () => {
    expect(documentOf(page).body.textContent).not.toMatch(/undefined|NaN|\[object|Infinity/)
  })
})

const headings = (page: string) => [...documentOf(page).querySelectorAll('h2')].map(({ id }) => id)

test('a learned model has all sections, and one that was only rounded those it has numbers for', () => {
  expect(headings(PAGES.quantize)).toEqual(['errors', 'learning', 'linears', 'clipping', 'scales', 'time', 'run'])
  expect(headings(PAGES['quantize, rounded without running'])).toEqual(['time', 'run'])
  expect(headings(PAGES.evaluate)).toEqual(['models', 'quality', 'speed', 'run'])
  expect(headings(PAGES['evaluate, one model'])).toEqual(['models', 'speed', 'run'])
})

test('tables say the numbers of the report', () => {
  const document = documentOf(PAGES.quantize)
  const rows = (id: string) =>
    [...document.querySelector(`#${id}`)!.parentElement!.querySelectorAll('tbody tr')].map(row =>
      [...row.children].map(({ textContent }) => textContent),
    )
  expect(rows('errors')[0]).toEqual(['0', '0.02', '0.011', '55 %', 'learned', '0'])
  expect(rows('errors')[2]!.slice(3, 5)).toEqual(['–', 'rounded'])
  // Error in the file: learned, but rounded in block 2.
  expect(rows('linears')[0]).toEqual(['q_proj', '1.5 %', '1.5 %', '2 %', '1.5 %'])
  expect(rows('clipping')).toHaveLength(3 * 4)
  expect(rows('scales')[0]).toEqual(['0', 'q_proj → k_proj', '0.7', '1.26', '1.4', '1.47', '1.54'])
  expect(rows('time')[3]!.slice(1, 3)).toEqual(['1 min 4 s', '730 MB'])
})

test('the calibration and the comparison on held-out text are told where the report has them', () => {
  const told = {
    ...quantizeReport(),
    calibration: { samples: 32, seqLen: 256, digest: '0123456789abcdef' },
    seed: 7,
    check: { windows: 16, seqLen: 256, tokens: 4080, float: 20, quantized: 25, ratio: 1.25 },
  }
  const text = documentOf(reportPage(told)).body.textContent.replace(/\s+/g, ' ')
  expect(text).toContain('Perplexity25float: 20, on held-out calibration text')
  expect(text).toContain('Perplexity is 1.25 times that of the float model.')
  expect(text).toContain('Calibrationtext that the model wrote itself, 32 samples of 256 tokens')
  expect(text).toContain('Seed7')
})

test('a page is the same for the same report, also for one that was JSON', () => {
  const report = quantizeReport()
  const page = reportPage(report)
  expect(reportPage(report)).toBe(page)
  expect(reportPage(JSON.parse(JSON.stringify(report)) as typeof report)).toBe(page)
})

test('names are text, whatever they hold', () => {
  const evil = '<script>alert("x")</script>&\u001b[31m'
  const { blocks, ...rest } = quantizeReport()
  const page = reportPage(
    {
      ...rest,
      model: `/models/${evil}.onnx`,
      notes: [evil],
      skipped: [{ node: evil, reason: evil }],
      blocks: blocks.map(block => ({
        ...block,
        scales: [
          {
            mapping: evil,
            scales: block.scales?.[0]?.scales ?? { least: 1, lower: 1, median: 1, upper: 1, greatest: 1 },
          },
        ],
        figures: block.figures?.map(linear => ({ ...linear, name: `${linear.name}.${evil}` })),
      })),
    },
    { command: `omniquant ${evil}`, date: evil },
  )
  expect(page).not.toContain('<script')
  expect(page).not.toContain('\u001b')
  expect(unclosed(page)).toEqual([])
  expect(documentOf(page).querySelector('code')!.textContent).toContain('<script>alert("x")</script>&')
})
