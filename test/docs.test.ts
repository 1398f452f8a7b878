/** @file Documents: error codes, options and links are those of the program. Builds come before (pretest). */

import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { expect, test } from 'vitest'

const ROOT = resolve(import.meta.dirname, '..')
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8')

const markdownIn = (folder: string): string[] =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.md'))
    .map(name => join(folder, name))

const documents = [
  ...readdirSync(ROOT).filter(name => name.endsWith('.md')),
  ...['docs', 'bench', 'fixtures', 'test/clients'].flatMap(markdownIn),
]

/** Prose of a document: no code blocks. */
const prose = (path: string): string => read(path).replace(/^```[^]*?^```$/gm, '')

/** Anchors of headings, as GitHub makes them. */
const anchorsOf = (path: string): string[] =>
  [...prose(path).matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  )

test('each error code has a row in docs/errors.md, and each row a code', () => {
  const codes = [...read('src/errors.ts').matchAll(/^ {2}\| '(E_\w+)'$/gm)].map(([, code]) => code!)
  const rows = [...read('docs/errors.md').matchAll(/^\| `(E_\w+)` \| (.+) \| (.+) \|$/gm)].map(([, code]) => code!)
  expect(codes.length).toBeGreaterThan(20)
  expect(rows.toSorted()).toEqual(codes.toSorted())
})

test('each error code is used', () => {
  const names = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
  const sources = names.filter(name => name.endsWith('.ts') && name !== 'errors.ts')
  const text = sources.map(name => read(join('src', name))).join('\n')
  const codes = [...read('docs/errors.md').matchAll(/^\| `(E_\w+)`/gm)].map(([, code]) => code!)
  const own = ['E_USAGE', 'E_INTERNAL', 'E_MEMORY'] // made by functions of errors.ts
  expect(codes.filter(code => !own.includes(code) && !text.includes(`'${code}'`))).toEqual([])
})

test('docs/cli.md is what the tables of options say', () => {
  const { status, stderr } = spawnSync(process.execPath, [join(ROOT, 'tools/docs-cli.js'), '--check'], {
    encoding: 'utf8',
  })
  expect([status, stderr]).toEqual([0, ''])
})

test('links between documents lead to a file and a heading', () => {
  const links = documents.flatMap(path =>
    [...prose(path).matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => ({ path, link: link! })),
  )
  const inside = links.filter(({ link }) => !/^\w+:/.test(link))
  expect(inside.length).toBeGreaterThan(80)
  const dead = inside.filter(({ path, link }) => {
    const [file, anchor] = link.split('#') as [string, string?]
    const target = file === '' ? path : join(dirname(path), file)
    if (!existsSync(join(ROOT, target))) return true
    return anchor !== undefined && !anchorsOf(target).includes(anchor)
  })
  expect(dead).toEqual([])
})

/** Notes on measurements; they may name where their models lie. */
const NOTES = ['README', 'accuracy', 'exporters', 'gpu-programs', 'onnxruntime', 'speed'].map(name =>
  join('docs', `${name}.md`),
)

test('each page of docs is in its index, and only notes name a folder that users lack', () => {
  const index = read('docs/README.md')
  const pages = markdownIn('docs').filter(path => path !== join('docs', 'README.md'))
  expect(NOTES.filter(path => !documents.includes(path))).toEqual([])
  expect(pages.filter(path => !index.includes(`(${path.slice('docs/'.length)})`))).toEqual([])
  const forUsers = [
    'README.md',
    'CONTRIBUTING.md',
    'SECURITY.md',
    ...markdownIn('docs').filter(path => !NOTES.includes(path)),
  ]
  expect(forUsers.filter(path => read(path).includes('../shared'))).toEqual([])
})
