#!/usr/bin/env node
/**
 * @file Writes docs/cli.md: all commands and options, from the help that the command line makes of its tables of options. Needs dist/.
 *
 *     node tools/docs-cli.js [--check]
 *
 * With --check nothing is written; the exit code is 1 when docs/cli.md is another text.
 */

import { readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const ROOT = resolve(import.meta.dirname, '..')
const PAGE = join(ROOT, 'docs/cli.md')

// The help is wrapped for the terminal: on one this wide each option is one line.
Object.assign(process.stdout, { isTTY: true, columns: 10_000 })
const { parseCommandLine } = await import('../dist/cli/main.js')

/** Parts of a help text by heading; what stands before the first heading is "". */
function partsOf(text) {
  const parts = new Map([['', []]])
  let lines = parts.get('')
  for (const line of text.split('\n')) {
    const heading = /^(\S[^:]*):$/.exec(line)
    if (heading) parts.set(heading[1], (lines = []))
    else if (line.trim() !== '') lines.push(line)
  }
  return parts
}

/** "  -o, --output <path>   file" -> ["-o, --output <path>", "file"] */
const cellsOf = line => line.trim().split(/ {2,}/)

const cell = text => text.replace(/[|*]/g, '\\$&')

/** Prose with flags as code: <n> would be read as HTML. */
const prose = text => cell(text.replace(/<[\w:]+>/g, '`$&`').replace(/(?<![`\w])--?[a-z][\w-]*/g, '`$&`'))

const tableOf = ([head, lines]) =>
  [
    `| ${head} | |`,
    '| --- | --- |',
    ...lines.map(cellsOf).map(([name, help]) => `| \`${cell(name)}\` | ${prose(help ?? '')} |`),
  ].join('\n')

const helpOf = (...command) => parseCommandLine([...command, '--help']).text

function sectionOf(command) {
  const [head, ...rest] = partsOf(helpOf(command))
  const [usage, ...description] = head[1]
  const tables = rest.filter(([, lines]) => lines.length > 0).map(tableOf)
  return [`## ${command}`, `    ${usage.replace(/^Usage: /, '')}`, description.join(' '), ...tables].join('\n\n')
}

function page() {
  const help = helpOf()
  const commands = partsOf(help)
    .get('Commands')
    .map(line => cellsOf(line)[0].split(' ')[0])
    .filter(name => name !== 'help')
  const [, ending] = help.split('\nExamples:\n')
  return [
    '# Commands and options',
    '<!-- Written by `npm run docs:cli` from the tables of options. Do not edit. -->',
    '`omniquant help COMMAND` prints the same. Longer explanations are in the [guide](README.md#guide).',
    `\`\`\`text\n${ending.trimEnd()}\n\`\`\``,
    ...commands.map(sectionOf),
    '',
  ]
    .join('\n\n')
    .replace(/\n+$/, '\n')
}

const text = page()
if (process.argv.includes('--check')) {
  if (readFileSync(PAGE, 'utf8') !== text) {
    console.error('docs/cli.md is not what the tables of options say: run `npm run docs:cli`.')
    process.exitCode = 1
  }
} else writeFileSync(PAGE, text)
