#!/usr/bin/env node
/**
 * @file Import graph of a source folder: rooms, levels, arrows between rooms, arrows against the order of rooms, circles.
 *
 *     node tools/import-graph.js [FOLDER] [--order ROOM,ROOM,...] [--files] [--json]
 *
 * FOLDER is src/quant by default. A room is a folder, or what --order names (lowest first; a file is a room too). --files adds every
 * file with its level. Exit code 1 when there is a circle of files or an arrow against the order.
 */

import { existsSync, readFileSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { readImports, survey } from './imports.js'

const SRC = resolve(import.meta.dirname, '../src')
const HOUSE = resolve(import.meta.dirname, '../test/architecture.test.ts')

/** Rooms of src, lowest first, from the test that holds them. */
function roomsOfSrc() {
  const [, list] = /const ROOMS = \[([^\]]*)\]/.exec(readFileSync(HOUSE, 'utf8'))
  return [...list.matchAll(/'([^']+)'/g)].map(([, room]) => room)
}

/** Rooms of src that lie below `root`, lowest first, as paths from there. */
function orderBelow(root) {
  return roomsOfSrc()
    .map(room => relative(root, join(SRC, room)) || '.')
    .filter(room => !room.startsWith('..') && existsSync(join(root, room)))
}

const table = (rows, indent = '  ') => {
  const widths = rows[0].map((_, i) => Math.max(...rows.map(row => String(row[i]).length)))
  return rows.map(
    row =>
      indent +
      row
        .map((cell, i) =>
          typeof cell === 'number' ? String(cell).padStart(widths[i]) : String(cell).padEnd(widths[i]),
        )
        .join('  ')
        .trimEnd(),
  )
}

function print(root, order, found, withFiles) {
  const lines = [
    `${root}: ${found.files} files on ${found.levels} levels, ${found.imports} imports,`,
    `${found.importsBetweenRooms} of them between rooms (${found.arrows.length} arrows, rooms on ${found.roomLevels} levels);`,
    `${found.uphill.length} imports against the order, ${found.circles.length} circles of files, ${found.roomCircles.length} circles of rooms.`,
    '',
    `Order: ${order.length === 0 ? 'none given' : order.join(' < ')}`,
    '',
    'Rooms (files, levels inside, rooms they import):',
    ...table(found.rooms.map(({ name, files, levels, imports }) => [name, files, levels, imports.join(' ')])),
    '',
    'Arrows between rooms (imports):',
    ...(found.arrows.length > 0 ? table(found.arrows.map(({ arrow, imports }) => [arrow, imports])) : ['  none']),
  ]
  const list = (title, rows) => lines.push('', title, ...(rows.length > 0 ? rows.map(row => `  ${row}`) : ['  none']))
  list('Against the order:', found.uphill)
  const circles = members => members.map(names => names.join(', '))
  list('Circles of files:', circles(found.circles))
  list('Circles of rooms:', circles(found.roomCircles))
  if (withFiles)
    list(
      'Files by level:',
      table(
        Object.entries(found.fileLevels).map(([file, level]) => [level, file]),
        '',
      ),
    )
  process.stdout.write(`${lines.join('\n')}\n`)
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { order: { type: 'string' }, json: { type: 'boolean' }, files: { type: 'boolean' } },
})
const root = resolve(positionals[0] ?? join(SRC, 'quant'))
const order = values.order === undefined ? orderBelow(root) : values.order.split(',')
const graph = new Map([...readImports(root)].map(([name, { imports }]) => [name, imports]))
const found = survey(graph, order)
if (values.json) process.stdout.write(`${JSON.stringify({ root, order, ...found }, null, 2)}\n`)
else print(relative(process.cwd(), root) || '.', order, found, values.files)
if (found.uphill.length > 0 || found.circles.length > 0) process.exitCode = 1
