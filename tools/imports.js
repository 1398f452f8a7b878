/** @file Imports between source files as a graph: who imports whom, circles, levels, rooms. Reads files; prints nothing. */

import { readdirSync, readFileSync } from 'node:fs'
import { join, posix, sep } from 'node:path'
import ts from 'typescript'

/**
 * Source files below a folder, with the files they import. Static, type-only and dynamic imports, re-exports and `import('x').Type`
 * all count: whatever is moved or renamed breaks each of them.
 * @param {string} root
 * @param {(name: string) => boolean} [included]
 * @returns {Map<string, { lines: number, imports: string[], outside: string[] }>} by path from `root`, with "/" on every system;
 *   `imports` are files below `root`, `outside` is everything else that is imported.
 */
export function readImports(root, included = name => /\.(ts|js|mjs)$/.test(name) && !name.endsWith('.d.ts')) {
  const names = readdirSync(root, { recursive: true, encoding: 'utf8' })
    .map(name => name.split(sep).join('/'))
    .filter(name => included(name))
    .sort()
  const known = new Set(names)
  return new Map(
    names.map(name => {
      const text = readFileSync(join(root, name), 'utf8')
      const targets = new Set(ts.preProcessFile(text, true, true).importedFiles.map(({ fileName }) => fileName))
      const imports = []
      const outside = []
      for (const target of targets) {
        const path = target.startsWith('.') ? posix.join(posix.dirname(name), target) : target
        if (known.has(path)) imports.push(path)
        else outside.push(path)
      }
      return [name, { lines: text.split('\n').length - 1, imports: imports.sort(), outside: outside.sort() }]
    }),
  )
}

/**
 * Sets of files that reach each other by imports (strongly connected components), by Tarjan's algorithm.
 * @param {ReadonlyMap<string, readonly string[]>} graph file -> files it imports
 * @returns {string[][]} all components, those without a circle as single files; imported ones before their importers.
 */
export function components(graph) {
  const index = new Map()
  const low = new Map()
  const stack = []
  const found = []
  const visit = name => {
    index.set(name, index.size)
    low.set(name, index.get(name))
    stack.push(name)
    for (const target of graph.get(name) ?? []) {
      if (!index.has(target)) visit(target)
      if (stack.includes(target)) low.set(name, Math.min(low.get(name), low.get(target)))
    }
    if (low.get(name) === index.get(name)) found.push(stack.splice(stack.indexOf(name)).sort())
  }
  for (const name of graph.keys()) if (!index.has(name)) visit(name)
  return found
}

/**
 * Level of each file: 1 for one that imports none, else one more than the highest it imports. Files of a circle share a level.
 * @param {ReadonlyMap<string, readonly string[]>} graph
 * @returns {Map<string, number>}
 */
export function levels(graph) {
  const level = new Map()
  for (const members of components(graph)) {
    const below = members
      .flatMap(name => graph.get(name))
      .filter(name => !members.includes(name))
      .map(name => level.get(name))
    for (const name of members) level.set(name, Math.max(0, ...below) + 1)
  }
  return level
}

/**
 * Room of a file: the longest of `order` that is its path or a folder above it, else its folder ("." at the top).
 * @param {string} name
 * @param {readonly string[]} order
 */
export function roomOf(name, order = []) {
  const rooms = order.filter(room => name === room || name.startsWith(`${room}/`))
  return rooms.sort((a, b) => b.length - a.length)[0] ?? posix.dirname(name)
}

/**
 * All figures about a graph of files.
 * @param {ReadonlyMap<string, readonly string[]>} graph file -> files it imports
 * @param {readonly string[]} order rooms, each allowed to import itself and those before it
 */
export function survey(graph, order = []) {
  const room = new Map([...graph.keys()].map(name => [name, roomOf(name, order)]))
  const level = levels(graph)
  const edges = [...graph].flatMap(([from, targets]) => targets.map(to => ({ from, to })))
  const between = edges.filter(({ from, to }) => room.get(from) !== room.get(to))
  const counts = new Map()
  for (const { from, to } of between) {
    const key = `${room.get(from)} -> ${room.get(to)}`
    counts.set(key, (counts.get(key) ?? 0) + 1)
  }
  const rooms = [...new Set(room.values())].sort((a, b) => rank(a, order) - rank(b, order) || a.localeCompare(b))
  const roomGraph = new Map(
    rooms.map(name => [
      name,
      [...new Set(between.filter(({ from }) => room.get(from) === name).map(({ to }) => room.get(to)))].sort(),
    ]),
  )
  return {
    files: graph.size,
    levels: Math.max(0, ...level.values()),
    imports: edges.length,
    importsBetweenRooms: between.length,
    rooms: rooms.map(name => {
      const files = [...graph.keys()].filter(file => room.get(file) === name)
      const own = new Map(files.map(file => [file, graph.get(file).filter(target => room.get(target) === name)]))
      return { name, files: files.length, levels: Math.max(0, ...levels(own).values()), imports: roomGraph.get(name) }
    }),
    roomLevels: Math.max(0, ...levels(roomGraph).values()),
    arrows: [...counts].map(([arrow, imports]) => ({ arrow, imports })).sort((a, b) => a.arrow.localeCompare(b.arrow)),
    uphill: between
      .filter(({ from, to }) => order.includes(room.get(from)) && order.includes(room.get(to)))
      .filter(({ from, to }) => rank(room.get(to), order) > rank(room.get(from), order))
      .map(({ from, to }) => `${from} -> ${to}`),
    circles: components(graph).filter(members => members.length > 1),
    roomCircles: components(roomGraph).filter(members => members.length > 1),
    fileLevels: Object.fromEntries([...level].sort((a, b) => a[1] - b[1] || a[0].localeCompare(b[0]))),
  }
}

/** Place in the order; rooms that are not in it are listed last. */
const rank = (room, order) => (order.includes(room) ? order.indexOf(room) : order.length)
