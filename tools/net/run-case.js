/** @file One case of the net: runs its commands in a folder of its own and says what came out, without times and places. */

import { createHash } from 'node:crypto'
import { copyFileSync, cpSync, createReadStream, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { basename, join, sep } from 'node:path'
import { runCommand } from './command.js'

/** Fields of documents that differ from run to run. */
const VOLATILE = new Set(['elapsedMs', 'tokensPerSecond', 'speed', 'peakMemoryBytes'])
/** Times and rates in printed tables. Runs of spaces are closed up: the width of a column depends on them. */
const PRINTED_TIMES = /\d+(\.\d+)?( k)?(\/s| s| min \d\d s)\b/g

/** @returns {Promise<string>} SHA-256 in hexadecimal. */
async function hashFile(path) {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk)
  return hash.digest('hex')
}

const hashText = text => createHash('sha256').update(text).digest('hex')

/** Replaces folders by their names in `places`; the longest path first. */
function withoutPlaces(text, places) {
  const known = Object.entries(places).sort(([, a], [, b]) => b.length - a.length)
  return known.reduce((result, [name, path]) => result.replaceAll(path, `<${name}>`), text)
}

/** A document without what differs from run to run, keys in order. */
function stable(value, places) {
  if (typeof value === 'string') return withoutPlaces(value, places)
  if (Array.isArray(value)) return value.map(item => stable(item, places))
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).filter(([key]) => !VOLATILE.has(key))
  return Object.fromEntries(
    entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, item]) => [key, stable(item, places)]),
  )
}

/** Long documents, those of `inspect`, are kept as a hash for each field. */
const hashedFields = document =>
  Object.fromEntries(Object.entries(document).map(([key, value]) => [key, hashText(JSON.stringify(value))]))

function resultOf(command, { exitCode, stdout, stderr }, places) {
  const ended = { exitCode }
  if (!command.includes('--json')) {
    const tidy = text => withoutPlaces(text, places).replace(PRINTED_TIMES, 'TIME').replace(/ +/g, ' ')
    return { ...ended, stdout: hashText(tidy(stdout)), stderr: tidy(stderr) }
  }
  let document
  try {
    document = stable(JSON.parse(stdout), places)
  } catch {
    return { ...ended, notJson: hashText(stdout), stderr: withoutPlaces(stderr, places) }
  }
  return { ...ended, document: command[0] === 'inspect' && !document.error ? hashedFields(document) : document }
}

/**
 * @param {{ id: string, model: string, commands: string[][], copyTo?: string }} row a case, of casesOf
 * @param {string} folder to work in; made, and removed at the end
 * @param {Record<string, string>} inputs placeholder -> path
 * @param {Record<string, string>} places names of folders to replace in texts -> path
 * @param {string} [keep] folder for what was written
 * @returns what each command ended with, and SHA-256 of every file that was written.
 */
export async function runCase({ id, model, commands, copyTo }, folder, inputs, places, keep) {
  mkdirSync(folder, { recursive: true })
  try {
    const given = new Set()
    if (copyTo !== undefined) {
      mkdirSync(join(folder, copyTo), { recursive: true })
      for (const name of readdirSync(model)) {
        copyFileSync(join(model, name), join(folder, copyTo, name))
        given.add(`${copyTo}/${name}`)
      }
    }
    const fill = text => text.replace(/\{(\w+)\}/g, (_, name) => ({ ...inputs, model })[name])
    const results = []
    for (const command of commands) {
      results.push(resultOf(command, await runCommand(command.map(fill), folder), { ...places, here: folder }))
    }
    const files = readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter(entry => entry.isFile())
      .map(entry => join(entry.parentPath, entry.name))
      .map(path => [
        path
          .slice(folder.length + 1)
          .split(sep)
          .join('/'),
        path,
      ])
      .filter(([name]) => !given.has(name))
      .sort(([a], [b]) => (a < b ? -1 : 1))
    const hashes = {}
    for (const [name, path] of files) hashes[name] = await hashFile(path)
    if (keep !== undefined) cpSync(folder, join(keep, basename(folder)), { recursive: true })
    return [id, { commands: results, files: hashes }]
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
