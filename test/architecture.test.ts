/**
 * @file The house rules a compiler cannot see: rooms import only lower rooms, files import each other in no circle, each library has
 * one door, files stay short.
 */

import { readdirSync, readFileSync } from 'node:fs'
import { join, posix, resolve, sep } from 'node:path'
import { expect, test } from 'vitest'

const SRC = resolve(import.meta.dirname, '../src')

/** Folders and single files of src, lowest first: each imports itself and what stands before it. ARCHITECTURE.md says what they hold. */
const ROOMS = [
  'printable.ts',
  'option-mark.ts',
  'errors.ts',
  'process',
  'files',
  'graph',
  'graph/onnx-file',
  'graph/rewrites',
  'graph/passes',
  'autodiff',
  'kernels',
  'decoder',
  'calibration',
  'quant/terms',
  'quant/find',
  'quant/float16',
  'quant/plan',
  'quant/learn',
  'quant/choose',
  'quant/export',
  'quant/output',
  'quant',
  'engine',
  'doctor',
  'page',
  'index.ts',
  'cli',
]

/** Outside libraries and the one file each may be imported by. */
const DOORS: Record<string, string> = {
  'onnx-proto': 'graph/onnx-file/onnx-proto.ts',
  'onnxruntime-node': 'kernels/session.ts',
  ndarray: 'kernels/transpose.ts',
  '@huggingface/tokenizers': 'calibration/tokenizer.ts',
  commander: 'cli/main.ts',
  ora: 'cli/progress.ts',
  yauzl: 'doctor/wheel.ts',
  '@observablehq/plot': 'page/plot.ts',
  linkedom: 'page/plot.ts',
}
const MAX_LINES = 350

/** Variables of the environment and the one file that reads each: no switch of an experiment may stay. */
const VARIABLES: Record<string, string> = {
  OMNIQUANT_CUDA_LIBS: 'engine/environment.ts',
  OMNIQUANT_DEBUG: 'cli/main.ts',
  LD_LIBRARY_PATH: 'engine/environment.ts',
  PIP_INDEX_URL: 'doctor/package-index.ts',
  TERM: 'cli/progress.ts',
  XDG_DATA_HOME: 'doctor/install-cuda.ts',
}

const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter(name => name.endsWith('.ts'))
  .map(name => ({ name: name.split(sep).join('/'), text: readFileSync(join(SRC, name), 'utf8') }))

/** Everything a file imports: static, type-only and dynamic imports, re-exports, require. */
const importsOf = (text: string): string[] =>
  [...text.matchAll(/(?:\bfrom |\bimport |\bimport\(|import\.meta\.url\)\()'([^']+)'/g)].map(match => match[1]!)

/** Files of src that a file imports. */
const neighbours = new Map(
  files.map(({ name, text }) => [
    name,
    importsOf(text)
      .filter(target => target.startsWith('.') && target.endsWith('.ts'))
      .map(target => posix.join(posix.dirname(name), target)),
  ]),
)

/** The room of a file: the longest of those it lies in. */
const roomOf = (name: string): string =>
  ROOMS.filter(room => name === room || name.startsWith(`${room}/`)).reduce(
    (a, b) => (a.length >= b.length ? a : b),
    '',
  )

test('every file lies in a room, and every room has files', () => {
  expect(files.filter(({ name }) => roomOf(name) === '').map(({ name }) => name)).toEqual([])
  expect(ROOMS.filter(room => !files.some(({ name }) => roomOf(name) === room))).toEqual([])
})

test('a room imports only itself and the rooms before it', () => {
  const violations = [...neighbours].flatMap(([name, targets]) =>
    targets
      .filter(target => ROOMS.indexOf(roomOf(target)) > ROOMS.indexOf(roomOf(name)))
      .map(target => `${name} imports ${target}`),
  )
  expect(violations).toEqual([])
})

test('files import each other in no circle', () => {
  const done = new Set<string>()
  const circles: string[] = []
  const visit = (name: string, path: readonly string[]): void => {
    if (path.includes(name)) circles.push([...path.slice(path.indexOf(name)), name].join(' -> '))
    if (path.includes(name) || done.has(name)) return
    for (const target of neighbours.get(name) ?? []) visit(target, [...path, name])
    done.add(name)
  }
  for (const name of neighbours.keys()) visit(name, [])
  expect(circles).toEqual([])
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

test('variables of the environment are read where the table says, and no others', () => {
  const found = files.flatMap(({ name, text }) =>
    [...text.matchAll(/\benv(?:\['(\w+)'\]|\.([A-Z]\w*))/g)].map(match => [match[1] ?? match[2]!, name]),
  )
  expect(Object.fromEntries(found)).toEqual(VARIABLES)
  expect(found).toHaveLength(Object.keys(VARIABLES).length)
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
