/** @file The house rules a compiler cannot see: floors import only lower floors, each library has one door, files stay short. */

import { readdirSync, readFileSync } from 'node:fs'
import { join, relative, resolve, sep } from 'node:path'
import { expect, test } from 'vitest'

const SRC = resolve(import.meta.dirname, '../src')
const FLOORS = ['files', 'graph', 'autodiff', 'kernels', 'calibration', 'quant', 'cli']
/** Outside libraries and the one file each may be imported by. */
const DOORS: Record<string, string> = {
  'onnx-proto': 'graph/onnx-proto.ts',
  'onnxruntime-node': 'kernels/session.ts',
  ndarray: 'kernels/tensor.ts',
  '@huggingface/tokenizers': 'calibration/tokenizer.ts',
  commander: 'cli/main.ts',
  ora: 'cli/progress.ts',
}
const MAX_LINES = 350

const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter(name => name.endsWith('.ts'))
  .map(name => ({ name: name.split(sep).join('/'), text: readFileSync(join(SRC, name), 'utf8') }))

/** Everything a file imports: static, type-only and dynamic imports, re-exports, require. */
const importsOf = (text: string): string[] =>
  [...text.matchAll(/(?:\bfrom |\bimport |\bimport\(|import\.meta\.url\)\()'([^']+)'/g)].map(match => match[1]!)

/** Floor number of a file; files beside the floors (errors.ts, index.ts) have none. */
const floorOf = (name: string): number => FLOORS.indexOf(name.split('/')[0]!)

test('the sources are where this test looks', () => {
  expect(files.length).toBeGreaterThan(20)
  for (const floor of FLOORS) expect(files.some(({ name }) => name.startsWith(`${floor}/`))).toBe(true)
})

test('a floor imports only itself and lower floors', () => {
  const violations = files.flatMap(({ name, text }) =>
    importsOf(text)
      .filter(target => target.startsWith('.'))
      .map(target =>
        relative(SRC, resolve(SRC, name, '..', target))
          .split(sep)
          .join('/'),
      )
      .filter(target => floorOf(name) >= 0 && floorOf(target) > floorOf(name))
      .map(target => `${name} imports ${target}`),
  )
  expect(violations).toEqual([])
})

test('each outside library is imported by one file', () => {
  const violations = files.flatMap(({ name, text }) =>
    importsOf(text)
      .filter(target => !target.startsWith('.') && !target.startsWith('node:'))
      .filter(target => DOORS[target] !== name)
      .map(target => `${name} imports ${target}`),
  )
  expect(violations).toEqual([])
  for (const [library, door] of Object.entries(DOORS))
    expect(importsOf(files.find(({ name }) => name === door)?.text ?? ''), door).toContain(library)
})

test('every file says in its first line what it owns, and none grows beyond reading', () => {
  const violations = files.flatMap(({ name, text }) => {
    const lines = text.split('\n').length
    return [
      ...(/^(#!.*\n)?\/\*\*(\n \*)? @file /.test(text) ? [] : [`${name} does not start with /** @file`]),
      ...(lines > MAX_LINES ? [`${name} has ${lines} lines`] : []),
    ]
  })
  expect(violations).toEqual([])
})
