/** @file Skipped tests: each says why, and the reasons are counted. */

import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import type { TestCase } from 'vitest/node'
import { skippedLines } from './skip-reporter.ts'
import { unless } from './unless.ts'

const ROOT = resolve(import.meta.dirname, '..')

const inFile = { type: 'module' }
const group = (skipped?: string, parent: object = inFile) => ({ type: 'suite', meta: () => ({ skipped }), parent })
const skippedTest = (parent: object, skipped?: string, note?: string) =>
  ({
    ...{ type: 'test', fullName: 'a test', parent },
    meta: () => ({ skipped }),
    result: () => ({ state: 'skipped', note }),
  }) as unknown as TestCase

test('the reason of a test, of a group around it, or the note of a test that skips itself; most first', () => {
  const tests = [
    skippedTest(inFile, 'no /proc'),
    skippedTest(group(undefined, group('no driver'))),
    skippedTest(group('no driver')),
    skippedTest(group(), undefined, 'not now'),
    skippedTest(inFile),
  ]
  expect(skippedLines(tests)).toEqual([
    '2 skipped: no driver',
    '1 skipped: no /proc',
    '1 skipped: not now',
    '1 skipped: no reason given: a test',
  ])
})

test('nothing is skipped where nothing is missing', () => {
  expect(unless(undefined)).toEqual({})
  expect(unless('no driver')).toEqual({ skip: true, meta: { skipped: 'no driver' } })
})

test('no test is skipped without a reason, and limits are those of vitest.config.ts', () => {
  const files = readdirSync(ROOT, { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.test.ts'))
  expect(files.length).toBeGreaterThan(200)
  const textOf = (name: string): string => readFileSync(join(ROOT, name), 'utf8')
  const skips = /\b(?:test|it|describe)\.(?:skip|skipIf|runIf|only|todo)\b/
  const limits = /\{ timeout: \d[\d_]*00 \}|^\}, \d[\d_]*00\)$/m
  const elapsed = /expect\((?:performance|Date)\.now\(\)/
  for (const rule of [skips, limits, elapsed])
    expect(files.filter(name => name !== 'helpers/skip-reporter.test.ts' && rule.test(textOf(name)))).toEqual([])
})
