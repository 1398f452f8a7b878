#!/usr/bin/env node
/**
 * @file Lines of source by folder, and the files that have grown long.
 *
 *     node tools/lines.js [FOLDER] [--long N] [--limit N] [--json]
 *
 * FOLDER is src by default. Files above --long (250) lines are listed; one above --limit (350) makes the exit code 1.
 */

import { readdirSync, readFileSync } from 'node:fs'
import { join, posix, relative, resolve, sep } from 'node:path'
import { parseArgs } from 'node:util'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    long: { type: 'string', default: '250' },
    limit: { type: 'string', default: '350' },
    json: { type: 'boolean' },
  },
})
const root = resolve(positionals[0] ?? join(import.meta.dirname, '../src'))
const [long, limit] = [Number(values.long), Number(values.limit)]

const files = readdirSync(root, { recursive: true, encoding: 'utf8' })
  .filter(name => /\.(ts|js)$/.test(name))
  .map(name => ({
    name: name.split(sep).join('/'),
    lines: readFileSync(join(root, name), 'utf8').split('\n').length - 1,
  }))
  .sort((a, b) => b.lines - a.lines || a.name.localeCompare(b.name))

const sum = rows => rows.reduce((total, { lines }) => total + lines, 0)
const folders = [...new Set(files.map(({ name }) => posix.dirname(name)))].sort().map(folder => {
  const own = files.filter(({ name }) => posix.dirname(name) === folder)
  return { folder, files: own.length, lines: sum(own), longest: own[0].lines }
})
const above = files.filter(({ lines }) => lines > long)
const tooLong = files.filter(({ lines }) => lines > limit)

if (values.json) {
  console.log(JSON.stringify({ root, files: files.length, lines: sum(files), folders, above, tooLong }, null, 2))
} else {
  const width = Math.max(...folders.map(({ folder }) => folder.length))
  const row = (name, ...cells) => `${name.padEnd(width)}  ${cells.map(cell => String(cell).padStart(7)).join(' ')}`
  console.log(
    [
      row(relative(process.cwd(), root) || '.', 'files', 'lines', 'longest'),
      ...folders.map(({ folder, files: count, lines, longest }) => row(folder, count, lines, longest)),
      row('all', files.length, sum(files), files[0]?.lines ?? 0),
      '',
      `Above ${long} lines: ${above.length}`,
      ...above.map(({ name, lines }) => `  ${lines}  ${name}${lines > limit ? `  (above ${limit})` : ''}`),
    ].join('\n'),
  )
}
if (tooLong.length > 0) process.exitCode = 1
