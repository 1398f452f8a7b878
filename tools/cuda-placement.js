#!/usr/bin/env node
/**
 * @file Placement and cost of every program on onnxruntime's CUDA provider, over stand-in CUDA libraries: no GPU is needed, and no number
 * is computed. tools/fake-cuda/README.md makes FAKE.
 *
 *     npm run build && node tools/cuda-placement.js FAKE [--only PATTERN] [--json]
 *
 * For each program that learning the first block or lm_head of fixtures/tiny-llama runs on the device: nodes on CUDA and on the CPU and
 * copies that onnxruntime put between them (Memcpy nodes); then, for a step (a run of a program without steps or samples), kernels,
 * products (cuBLAS), cuDNN calls, waits for the device, copies to it and from it with their bytes; the bytes that a run sends besides
 * those of its steps; device memory. PATTERN is a regular expression on the name of a case.
 */

import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import process from 'node:process'
import { parseArgs } from 'node:util'
import { decodeModel } from '../dist/graph/onnx-file/decode.js'

const ONE_BLOCK = { ignore: ['layers.1', 'layers.2'] }
/** Case -> options of quantize. */
const CASES = {
  'W4A16 g32': { scheme: 'w4a16g32', ...ONE_BLOCK },
  'W2A16 g64': { scheme: 'w2a16g64', ...ONE_BLOCK },
  'W4A4 LET': { scheme: 'w4a4', ...ONE_BLOCK },
  'W4A16 g32 learned rounding': { scheme: 'w4a16g32', rounding: 'learned', ...ONE_BLOCK },
  'lm_head 4 bits': { scheme: 'w4a16g32', ignore: ['layers.*'], lmHead: 4 },
}
/** Steps of the two runs that are compared. */
const FEW = 1
const MANY = 9

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { only: { type: 'string', default: '' }, json: { type: 'boolean', default: false } },
})
if (positionals.length !== 1) {
  console.error('usage: node tools/cuda-placement.js FAKE [--only PATTERN] [--json]')
  process.exit(2)
}
const fake = resolve(positionals[0])
const script = name => join(import.meta.dirname, 'cuda-placement', name)
const work = mkdtempSync(join(tmpdir(), 'omniquant-placement-'))

/** Runs a recorded program. @returns what it printed, and how often and with how many bytes each function was called. */
function replay(program, runs, steps, ...verbose) {
  const log = join(work, 'counts')
  const args = [script('replay.js'), join(fake, 'node_modules'), program, String(runs), String(steps), ...verbose]
  const printed = execFileSync('/bin/sh', ['-c', 'exec "$0" "$@" 2>&1', process.execPath, ...args], {
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    env: { ...process.env, LD_LIBRARY_PATH: join(fake, 'lib'), FAKECUDA_LOG: log },
  })
  const calls = readFileSync(log, 'utf8')
    .trim()
    .split('\n')
    .map(line => {
      const [, count, bytes, name] = /^(\d+)\t(\d+)\t(.*)$/.exec(line)
      return { count: Number(count), bytes: Number(bytes), name }
    })
  return { printed, calls }
}

/** Functions of the CUDA libraries, by what they do. */
const KINDS = {
  kernels: /^K /,
  products: /^cublas.*(gemm|Gemm|Matmul$)/,
  cudnn: /^cudnn/,
  waits: /^(cudaStreamSynchronize|cudaDeviceSynchronize|cudaEventSynchronize|memcpy-sync)/,
  toDevice: /^memcpy.* H2D/,
  fromDevice: /^memcpy.* D2H/,
}

const sum = (calls, kind, field) =>
  calls.reduce((total, call) => total + (KINDS[kind].test(call.name) ? call[field] : 0), 0)

/** Differences of two counts, for one of `n`. */
const between = (more, less, n) =>
  Object.fromEntries(
    Object.keys(KINDS).map(kind => [
      kind,
      {
        calls: (sum(more, kind, 'count') - sum(less, kind, 'count')) / n,
        bytes: (sum(more, kind, 'bytes') - sum(less, kind, 'bytes')) / n,
      },
    ]),
  )

/** Escape sequences for colours in onnxruntime's log. */
const COLOURS = new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`, 'g')

/** Nodes on each provider after onnxruntime's changes of the graph, and the copies it put in. */
function placement(printed) {
  const text = printed.replace(COLOURS, '')
  const placed = { cuda: 0, cpu: 0 }
  let provider
  const cpuNodes = new Set()
  for (const line of text.split('\n')) {
    const all = /(?:All nodes|Node\(s\)) placed on \[(\w+)\]\. Number of nodes: (\d+)/.exec(line)
    if (all) {
      provider = all[1].startsWith('CUDA') ? 'cuda' : 'cpu'
      placed[provider] += Number(all[2])
    } else if (provider === 'cpu') {
      const node = /^\s+(\w+) \(/.exec(line.replace(/^.*\]\s/, '  '))
      if (node) cpuNodes.add(node[1])
    }
  }
  const copies = [...text.matchAll(/(\d+) Memcpy nodes are added to the graph/g)]
  return { ...placed, copies: copies.reduce((total, [, count]) => total + Number(count), 0), cpuNodes: [...cpuNodes] }
}

function measure(program) {
  const { meta } = JSON.parse(readFileSync(join(program, 'feeds.json'), 'utf8'))
  const hasSteps = meta.some(({ counted }) => counted)
  const once = replay(program, 1, FEW, 'verbose')
  let placed = placement(once.printed)
  // Threads write to the log at the same time: now and then a line is torn.
  for (let tries = 0; placed.cuda + placed.cpu === 0; tries++) {
    if (tries === 5) throw new Error(`no placement in onnxruntime's log:\n${once.printed}`)
    placed = placement(replay(program, 1, FEW, 'verbose').printed)
  }
  const twice = replay(program, 2, FEW)
  const step = hasSteps
    ? between(replay(program, 1, MANY).calls, once.calls, MANY - FEW)
    : between(twice.calls, once.calls, 1)
  const run = between(twice.calls, once.calls, 1)
  const sent = hasSteps ? run.toDevice.bytes - step.toDevice.bytes : 0
  const memory = once.calls.find(({ name }) => name === 'peak device bytes').bytes
  return { ...placed, per: hasSteps ? 'step' : 'run', step, sent, memory }
}

const rows = []
try {
  for (const [name, options] of Object.entries(CASES).filter(([name]) => new RegExp(values.only).test(name))) {
    const folder = join(work, name.replace(/\W+/g, '-'))
    execFileSync(process.execPath, [script('record.js'), folder, JSON.stringify(options)], { stdio: 'inherit' })
    const seen = new Set()
    for (const place of readdirSync(folder).map(place => join(folder, place))) {
      // Other blocks and other groups of columns have the same programs with other names and numbers.
      const path = join(place, 'program.onnx')
      const bytes = readFileSync(path)
      const { graph } = decodeModel(bytes, { path, realPath: path, sizeBytes: bytes.length })
      const { meta } = JSON.parse(readFileSync(join(place, 'feeds.json'), 'utf8'))
      const kind = JSON.stringify([graph.name, graph.nodes.length, meta.map(({ dims }) => dims)])
      if (seen.has(kind)) continue
      seen.add(kind)
      rows.push({ case: name, program: graph.name, ...measure(place) })
    }
  }
} finally {
  rmSync(work, { recursive: true, force: true })
}

const short = bytes => (bytes < 1e4 ? `${Math.round(bytes)} B` : `${(bytes / 1e6).toFixed(2)} MB`)
const copies = ({ calls, bytes }) => `${+calls.toFixed(1)} (${short(bytes)})`
if (values.json) console.log(JSON.stringify(rows, null, 1))
else {
  console.log(
    '| case | program | nodes CUDA | CPU | Memcpy | per | kernels | products | cuDNN | waits | to device | from device | sent by a run besides | memory |',
  )
  console.log('|---|---|---|---|---|---|---|---|---|---|---|---|---|---|')
  for (const row of rows) {
    const { kernels, products, cudnn, waits, toDevice, fromDevice } = row.step
    const counts = [kernels, products, cudnn, waits].map(({ calls }) => +calls.toFixed(1))
    const cpu = row.cpuNodes.length > 0 ? `${row.cpu}: ${row.cpuNodes.join(', ')}` : row.cpu
    const cells = [row.case, row.program, row.cuda, cpu, row.copies, row.per, ...counts, copies(toDevice)]
    console.log(`| ${[...cells, copies(fromDevice), short(row.sent), short(row.memory)].join(' | ')} |`)
  }
}
