#!/usr/bin/env node
/**
 * @file Lint step: comments and documents name only files of the repository that are there.
 *
 *     node tools/check-names.js [ROOT]
 *
 * A name is a word that ends in .ts, .js, .md or .py, or a path that begins with a folder of the repository or of src. It may be
 * written from the root, from src, from the folder of the file that names it, or as the end of a path ("rules/gather.ts"); `*` stands
 * for any characters. Files of built code (dist/) count as their sources. Not looked at: other names, such as model.onnx or config.json,
 * which are the user's; paths that begin with ".." or with a word in capitals, which stands for a folder or file the reader has
 * (SHARED/zoo); what is built or downloaded. Exit code 1 when a name leads nowhere.
 */

import { readdirSync, readFileSync } from 'node:fs'
import { join, posix, resolve } from 'node:path'
import ts from 'typescript'

/** Folders that are made or downloaded. Names of built files are checked, by their sources. */
const ELSEWHERE = new Set(['node_modules', 'out'])
const NOT_OURS = new Set([...ELSEWHERE, 'dist', '.git'])
/** Names of products that look like files. */
const PRODUCTS = new Set(['transformers.js', 'node.js'])

const root = resolve(process.argv[2] ?? join(import.meta.dirname, '..'))

/** Paths below `folder`, files and folders, with "/" on every system. */
function pathsBelow(folder) {
  return readdirSync(join(root, folder), { withFileTypes: true })
    .filter(({ name }) => !NOT_OURS.has(name))
    .flatMap(entry => {
      const path = posix.join(folder, entry.name)
      return entry.isDirectory() ? [path, ...pathsBelow(path)] : [path]
    })
}

const paths = pathsBelow('.')
const known = new Set(paths)
const foldersOf = folder =>
  new Set(paths.filter(path => posix.dirname(path) === folder).map(path => posix.basename(path)))
const topFolders = [...foldersOf('.'), ...foldersOf('src')].filter(name => !/\./.test(name))

/** Comments of a source file, each with the line it begins on. */
function commentsOf(path, text) {
  const source = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true)
  const found = []
  const take = (from, to) => {
    for (const match of text.slice(from, to).matchAll(/\/\*[^]*?\*\/|\/\/.*/g))
      found.push({ text: match[0], line: source.getLineAndCharacterOfPosition(from + match.index).line + 1 })
  }
  const visit = node => {
    if (node.kind >= ts.SyntaxKind.FirstJSDocNode && node.kind <= ts.SyntaxKind.LastJSDocNode) return
    const children = node.getChildren(source)
    if (children.length === 0) take(node.getFullStart(), node.getStart(source))
    else children.forEach(visit)
  }
  visit(source)
  return found
}

const wholeText = (_, text) => [{ text, line: 1 }]
const hashComments = (_, text) =>
  text.split('\n').flatMap((line, i) => (/^\s*#/.test(line) ? [{ text: line, line: i + 1 }] : []))

/** Readers of comments, by extension of a file. */
const READERS = { '.ts': commentsOf, '.js': commentsOf, '.md': wholeText, '.py': hashComments }

const WORD = /(?<![\w./@~-])[\w.*-]+(?:\/[\w.*-]+)*/g

/** True for a word that names a file of ours. */
function isName(word) {
  const [first] = word.split('/')
  const elsewhere = first === '..' || /^[A-Z]+(\.|$)/.test(first) || ELSEWHERE.has(first)
  if (elsewhere || PRODUCTS.has(word.toLowerCase())) return false
  if (/[\w*]\.(ts|js|md|py)$/.test(word)) return true
  return word.includes('/') && topFolders.includes(first)
}

const patternOf = name => new RegExp(`(^|/)${name.replace(/[.]/g, '\\.').replace(/\*+/g, '[^/]*')}$`)

/** True when `name`, written in `file`, leads to a file or folder. */
function leadsSomewhere(name, file) {
  const source = name.replace(/^dist\/(.*)\.js$/, 'src/$1.ts').replace(/^\.\//, '')
  if (source.includes('*')) return paths.some(path => patternOf(source).test(path))
  const beside = posix.join(posix.dirname(file), source)
  return known.has(source) || known.has(beside) || paths.some(path => path.endsWith(`/${source}`))
}

/** Names in a file that lead nowhere. */
function deadNames(file) {
  const text = readFileSync(join(root, file), 'utf8')
  return READERS[posix.extname(file)](file, text).flatMap(comment =>
    comment.text.split('\n').flatMap((line, i) =>
      [...line.replace(/\w+:\/\/\S+/g, '').matchAll(WORD)]
        .map(([word]) => word.replace(/[.*/-]+$/, ''))
        .filter(word => isName(word) && !leadsSomewhere(word, file))
        .map(word => `${file}:${comment.line + i} names ${word}, which is not there`),
    ),
  )
}

const dead = paths.filter(path => posix.extname(path) in READERS && !foldersOf(path).size).flatMap(deadNames)
for (const line of dead) console.error(line)
if (dead.length > 0) {
  console.error(`${dead.length} names lead nowhere: mend the comment, or say in words what is meant.`)
  process.exitCode = 1
}
