#!/usr/bin/env node
/**
 * @file The net: bytes and reports of many small runs, to show that a change of the code changes no output.
 *
 *     npm run build
 *     node tools/net.js SHARED OUT.json [--only PATTERN] [--jobs N] [--keep FOLDER]   run the cases
 *     node tools/net.js --list SHARED [--only PATTERN]                                print their names
 *     node tools/net.js --compare A.json B.json [--files]                             exit code 1 when they differ
 *
 * PATTERN is a regular expression on "model: case". --keep keeps what the cases wrote. --files compares written files and exit codes
 * only, for changes that mean to change words. Results depend on processor, node and onnxruntime: compare those of one machine.
 */

import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { arch, availableParallelism, cpus, platform, tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { casesOf, inputsOf, TEXTS } from './net/cases.js'
import { checkBuilt, ROOT } from './net/command.js'
import { compareNets, formatComparison } from './net/compare.js'
import { runCase } from './net/run-case.js'

/** Commit the results are of, "+" behind it when files are changed. */
function commit() {
  const git = (...args) => execFileSync('git', args, { cwd: ROOT, encoding: 'utf8' }).trim()
  try {
    return `${git('rev-parse', '--short', 'HEAD')}${git('status', '--porcelain', 'src') === '' ? '' : '+'}`
  } catch {
    return 'unknown'
  }
}

function surroundings() {
  const version = JSON.parse(readFileSync(join(ROOT, 'node_modules/onnxruntime-node/package.json'), 'utf8')).version
  return {
    commit: commit(),
    node: process.version,
    onnxruntime: version,
    machine: `${platform()} ${arch()} ${cpus()[0]?.model ?? ''}`,
  }
}

/** Runs `jobs` cases at a time. @returns results by id, sorted. */
async function runAll(cases, jobs, shared, keep) {
  const temporary = realpathSync(mkdtempSync(join(tmpdir(), 'omniquant-net-')))
  const results = []
  let next = 0
  try {
    const inputs = { ...TEXTS }
    for (const [placeholder, { name, text }] of Object.entries(inputsOf())) {
      inputs[placeholder] = join(temporary, name)
      writeFileSync(inputs[placeholder], text)
    }
    const places = { shared, repository: ROOT, inputs: temporary }
    const worker = async () => {
      while (next < cases.length) {
        const row = cases[next++]
        const name = row.id.replace(/[^\w.-]+/g, '_')
        results.push(await runCase(row, join(temporary, name), inputs, places, keep))
        if (process.stderr.isTTY) process.stderr.write(`\r${results.length} of ${cases.length}`)
      }
    }
    await Promise.all(Array.from({ length: jobs }, worker))
  } finally {
    rmSync(temporary, { recursive: true, force: true })
  }
  return Object.fromEntries(results.sort(([a], [b]) => (a < b ? -1 : 1)))
}

async function run([sharedPath, out], { only, jobs, keep }) {
  checkBuilt()
  const shared = realpathSync(sharedPath)
  const cases = casesOf(shared).filter(({ id }) => new RegExp(only ?? '').test(id))
  const started = performance.now()
  const results = await runAll(cases, Number(jobs ?? availableParallelism()), shared, keep && resolve(keep))
  mkdirSync(dirname(resolve(out)), { recursive: true })
  writeFileSync(out, `${JSON.stringify({ meta: surroundings(), cases: results }, null, 1)}\n`)
  const codes = Object.values(results).flatMap(({ commands }) => commands.map(({ exitCode }) => exitCode))
  const seconds = Math.round((performance.now() - started) / 1000)
  console.log(
    `${cases.length} cases in ${seconds} s: ${codes.filter(code => code === 0).length} commands done, ` +
      `${codes.filter(code => code !== 0).length} refused -> ${out}`,
  )
  const ended = Object.keys(results).filter(id =>
    results[id].commands.some(({ exitCode }) => typeof exitCode === 'string'),
  )
  if (ended.length > 0) throw new Error(`ended by a signal or the time limit: ${ended.join(', ')}`)
}

function compare(paths, filesOnly) {
  const [before, after] = paths.map(path => JSON.parse(readFileSync(path, 'utf8')))
  const compared = compareNets(before, after, filesOnly)
  console.log(formatComparison(compared))
  if (compared.changed.length + compared.missing.length + compared.added.length > 0) process.exitCode = 1
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    compare: { type: 'boolean' },
    files: { type: 'boolean' },
    list: { type: 'boolean' },
    only: { type: 'string' },
    jobs: { type: 'string' },
    keep: { type: 'string' },
  },
})
if (positionals.length !== (values.list ? 1 : 2)) {
  console.error('usage: node tools/net.js SHARED OUT.json | --list SHARED | --compare A.json B.json')
  process.exitCode = 2
} else if (values.compare) compare(positionals, values.files)
else if (values.list) {
  const cases = casesOf(positionals[0]).filter(({ id }) => new RegExp(values.only ?? '').test(id))
  console.log(cases.map(({ id }) => id).join('\n'))
} else await run(positionals, values)
