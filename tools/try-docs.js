#!/usr/bin/env node
/**
 * @file Runs the commands of README.md and docs/guide as they stand, with the package as npm packs it. Needs dist/.
 *
 *     node tools/try-docs.js [--list] [PAGE...]
 *
 * Each page has a new folder, with the bundled model as my-llama/ and its texts as calib.txt and eval.txt. Blocks marked `sh` are run
 * there by bash, in their order; the first command that fails ends the page. A block behind `<!-- not run: REASON -->` is left out, and
 * the reason is printed. A block behind `<!-- file: NAME -->` is written to that file. --list only says what would be done.
 */

import { spawnSync } from 'node:child_process'
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, delimiter, dirname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

const ROOT = resolve(import.meta.dirname, '..')
const MODEL_FILES = ['model.onnx', 'tokenizer.json', 'tokenizer_config.json', 'config.json']
const TEXTS = ['calib.txt', 'eval.txt']

const { values, positionals } = parseArgs({ allowPositionals: true, options: { list: { type: 'boolean' } } })

const guide = readdirSync(join(ROOT, 'docs/guide')).sort()
const pages = positionals.length > 0 ? positionals : ['README.md', ...guide.map(name => `docs/guide/${name}`)]

const BLOCK = /(?:^<!-- (not run|file): (.+?) -->\n)?^```(\w+)\n([^]*?)^```$/gm

/** Steps of a page: a file to write, a block to run, or one to leave out. Blocks in other languages without a file name are for reading only. */
function stepsOf(page) {
  const text = readFileSync(join(ROOT, page), 'utf8')
  const indented = /^ {4}\S.*/m.exec(text.replace(BLOCK, ''))
  if (indented) throw new Error(`${page}: a command is written as a \`sh\` block, not indented: ${indented[0].trim()}`)
  return [...text.matchAll(BLOCK)].flatMap(([, mark, words, language, body]) => {
    if (mark === 'file') return [{ kind: 'file', name: words, body }]
    if (language !== 'sh') return []
    return [mark === undefined ? { kind: 'run', body } : { kind: 'left out', reason: words, body }]
  })
}

/** Environment of a user: nothing that npm or the tests have set for this package. */
const plainEnv = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_|^NODE_OPTIONS$/i.test(name)))

/** Runs a program to its end. @throws with what it printed when it fails. */
function run(cwd, env, command, ...args) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, env, encoding: 'utf8' })
  if (status !== 0) throw new Error(`it ended with ${error?.message ?? status}\n${stdout ?? ''}${stderr ?? ''}`)
  return stdout
}

/** Packs the package and unpacks it into `folder`/node_modules, beside links to its dependencies. @returns folder of the command. */
function install(folder) {
  const modules = join(folder, 'node_modules')
  const bin = join(modules, '.bin')
  mkdirSync(bin, { recursive: true })
  const packed = run(ROOT, process.env, 'npm', 'pack', '--ignore-scripts', '--json', '--pack-destination', folder)
  run(folder, process.env, 'tar', '-xzf', JSON.parse(packed)[0].filename, '-C', modules)
  renameSync(join(modules, 'package'), join(modules, 'omniquant'))
  for (const name of readdirSync(join(ROOT, 'node_modules')))
    if (!name.startsWith('.')) symlinkSync(join(ROOT, 'node_modules', name), join(modules, name))
  symlinkSync('../omniquant/bin/omniquant.js', join(bin, 'omniquant'))
  return bin
}

/** A new folder with what the pages suppose. */
function furnish(folder) {
  const fixture = join(ROOT, 'fixtures/tiny-llama')
  mkdirSync(join(folder, 'my-llama'), { recursive: true })
  for (const name of MODEL_FILES) copyFileSync(join(fixture, name), join(folder, 'my-llama', name))
  for (const name of TEXTS) copyFileSync(join(fixture, name), join(folder, name))
}

const firstLine = body => body.trim().split('\n')[0]

/** Does the steps of a page in `folder`. @returns false when one fails. */
function tryPage(page, folder, env) {
  furnish(folder)
  for (const step of stepsOf(page)) {
    const start = performance.now()
    const say = what => console.log(`${page}: ${what}: ${step.name ?? firstLine(step.body)}`)
    if (step.kind === 'left out') say(`not run (${step.reason})`)
    else if (step.kind === 'file') writeFileSync(join(folder, step.name), step.body)
    else {
      try {
        run(folder, env, 'bash', '-euo', 'pipefail', '-c', step.body)
        say(`ran in ${((performance.now() - start) / 1000).toFixed(1)} s`)
      } catch (error) {
        say('FAILED')
        console.error(`${step.body}${error.message}`)
        return false
      }
    }
  }
  return true
}

if (values.list) {
  for (const page of pages)
    for (const { kind, name, reason, body } of stepsOf(page))
      console.log(`${page}: ${kind}${reason ? ` (${reason})` : ''}: ${name ?? firstLine(body)}`)
} else {
  const home = mkdtempSync(join(tmpdir(), 'try-docs-'))
  try {
    const bin = install(home)
    const env = { ...plainEnv, PATH: [bin, dirname(process.execPath), process.env.PATH].join(delimiter) }
    const done = pages.map(page => tryPage(page, join(home, basename(page, '.md')), env))
    if (done.includes(false)) process.exitCode = 1
  } finally {
    rmSync(home, { recursive: true, force: true })
  }
}
