/**
 * @file Learning on a device: a random Llama block (of a 7B by default) at three schemes, measured by the code of a run, and from that
 * the time of a model's blocks at each preset, against the goal for a 7B.
 *
 *     node bench/gpu.js [--device cuda|cuda:N|webgpu|cpu] [--json] [--hidden 4096 --ffn 11008 --tokens 2048]
 *         [--schemes w4a16g128,w2a16g64,w4a4] [--blocks 32] [--samples 16] [--hidden-states float16] [--threads N]
 *
 * CUDA's libraries must be on LD_LIBRARY_PATH. Hidden states lie in the system's temporary folder (1.1 GB at these sizes). Presets with
 * sequences longer than --tokens are scaled from what was measured. Smaller sizes try it anywhere: --hidden 256 --ffn 704 --tokens 128.
 */

import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { availableParallelism, cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { Builder } from '../dist/graph/builder.js'
import { Graph } from '../dist/graph/ir.js'
import { tensorOf } from '../dist/graph/tensor.js'
import { deviceOf, isDeviceChoice } from '../dist/kernels/device.js'
import { compile, runtimeVersion } from '../dist/kernels/session.js'
import { blockMs, stepsForWork, withinSteps } from '../dist/quant/learn/effort.js'
import { workOf } from '../dist/quant/learn/learn-block.js'
import { measureBlock } from '../dist/quant/learn/measure-block.js'
import { emitLoop } from '../dist/quant/learn/samples.js'
import { planBlock } from '../dist/quant/plan/plan-block.js'
import { PRESETS } from '../dist/quant/terms/presets.js'
import { resolveOptions } from '../dist/quant/terms/resolve-options.js'
import { parseScheme, schemeName } from '../dist/quant/terms/scheme.js'
import { showHelp, wrongUsage } from './help.js'
import { llamaBlock, noise } from './llama-block.js'

showHelp(import.meta.filename)

const { values: given } = parseArgs({
  options: {
    device: { type: 'string', default: 'cpu' },
    json: { type: 'boolean', default: false },
    hidden: { type: 'string', default: '4096' },
    ffn: { type: 'string', default: '11008' },
    tokens: { type: 'string', default: '2048' },
    schemes: { type: 'string', default: 'w4a16g128,w2a16g64,w4a4' },
    blocks: { type: 'string', default: '32' },
    samples: { type: 'string', default: '16' },
    'hidden-states': { type: 'string', default: 'float32' },
    threads: { type: 'string', default: String(availableParallelism()) },
  },
})
const usage = problem => wrongUsage(import.meta.filename, problem)
const number = (name, least = 1) => {
  const value = Number(given[name])
  return Number.isSafeInteger(value) && value >= least
    ? value
    : usage(`--${name} ${given[name]} is no number from ${least}`)
}
if (!isDeviceChoice(given.device) || given.device === 'auto') usage('--device is cpu, cuda, cuda:N or webgpu')
const device = deviceOf(given.device)
const [hidden, ffn, tokens, blocks, threads] = ['hidden', 'ffn', 'tokens', 'blocks', 'threads'].map(name =>
  number(name),
)
const samples = number('samples', 2)
const say = line => given.json || console.log(line)

/** Goals of issue 13 for a 7B on one H200, in minutes. */
const GOALS = { w4a16g128: { default: 10, paper: 66 } }
const IS_7B = hidden === 4096 && ffn === 11008 && blocks === 32

/** Reads the memory in use on the GPU while this process is busy; its numbers wait in the pipe. */
function watchMemory() {
  const id = /^cuda:(\d+)$/.exec(device)?.[1]
  if (id === undefined) return () => Promise.resolve(undefined)
  const query = ['--query-gpu=memory.used', '--format=csv,noheader,nounits', '-lms', '200', '-i', id]
  const child = spawn('nvidia-smi', query, { stdio: ['ignore', 'pipe', 'ignore'] })
  let text = ''
  let failed = false
  child.stdout.on('data', chunk => (text += chunk))
  child.on('error', () => (failed = true))
  return async () => {
    if (failed) return undefined
    const closed = new Promise(resolve => child.on('close', resolve))
    child.kill()
    await closed
    const used = text.split('\n').map(Number).filter(Boolean)
    return used.length === 0 ? undefined : Math.max(...used)
  }
}

/** TFLOP/s of products [tokens, hidden] x [hidden, hidden] that follow each other in one run. */
async function measurePeak() {
  const outer = new Builder(new Graph('peak'))
  const count = outer.input('count', 'int64', [])
  const x = outer.input('x', 'float32', [tokens, hidden])
  const w = outer.input('w', 'float32', [hidden, hidden])
  const g = new Builder(new Graph('product'), outer.names)
  g.input('iteration', 'int64', [])
  const condition = g.input('continue', 'bool', [])
  const before = g.input('before', 'float32', [tokens, hidden])
  g.output(g.op('Identity', [condition]))
  g.output(g.matMul(before, w))
  emitLoop(outer, count, [x], g.graph, [{ name: 'y', shape: [tokens, hidden] }])
  const session = await compile(
    outer.graph,
    { device, threads },
    { w: tensorOf('float32', [hidden, hidden], noise(hidden * hidden, Math.sqrt(3 / hidden), 7)) },
  )
  const input = tensorOf('float32', [tokens, hidden], noise(tokens * hidden, 1, 8))
  const secondsOf = async products => {
    const started = performance.now()
    await session.run({ x: input, count: tensorOf('int64', [], BigInt64Array.of(BigInt(products))) })
    return (performance.now() - started) / 1000
  }
  try {
    await secondsOf(1)
    // Two lengths: their difference holds neither copies nor the start.
    let products = 4
    while ((await secondsOf(products)) < 0.3) products *= 2
    const times = []
    for (let i = 0; i < 3; i++) times.push((await secondsOf(2 * products)) - (await secondsOf(products)))
    const seconds = times.sort((a, b) => a - b)[1]
    return (2 * tokens * hidden * hidden * products) / seconds / 1e12
  } finally {
    await session.release()
  }
}

const folder = mkdtempSync(join(tmpdir(), 'omniquant-gpu-'))
const work = { file: name => join(folder, name) }

/** Times of a block at a number of tokens. */
async function measure(scheme, length) {
  const block = llamaBlock({ hidden, ffn, tokens: length, ...(hidden >= 2048 && { width: 128 }) })
  const values = new Map(block.nodes.flatMap(node => [...node.inputs, ...node.outputs].map(value => [value, value])))
  const method = resolveOptions({
    ...{ model: 'block', scheme, accuracyLevel: 0, device: given.device, threads },
    hiddenStates: given['hidden-states'],
  })
  const plan = planBlock(block, { scheme, accuracyLevel: 0, let: method.let, values })
  const weights = block.linears.reduce((sum, { inFeatures, outFeatures }) => sum + inFeatures * outFeatures, 0)
  const times = await measureBlock(plan, method, work, { count: samples })
  return { times, forwards: workOf(plan, method).forwards, weights }
}

/** Minutes of all blocks at each preset. */
function presetMinutes(measured, weights) {
  const entries = Object.entries(PRESETS).map(([name, preset]) => {
    const length = Math.min(preset.seqLen, tokens)
    const factor = preset.seqLen / length
    const times = measured.get(length)
    const steps = stepsForWork(preset.maxWork ?? Infinity, weights * blocks, preset.seqLen)
    const { samples: some, epochs } = withinSteps(preset, steps)
    const scaled = { ...times, sample: times.sample * factor, step: times.step * factor }
    const minutes = (blocks * blockMs(scaled, some, epochs)) / 60_000
    return [name, { minutes: rounded(minutes), samples: some, tokens: preset.seqLen, epochs, scaled: factor > 1 }]
  })
  return Object.fromEntries(entries)
}

const lengths = [...new Set([tokens, ...Object.values(PRESETS).map(({ seqLen }) => Math.min(seqLen, tokens))])].sort(
  (a, b) => b - a,
)
const rounded = (value, digits = 3) => value !== undefined && Number(value.toPrecision(digits))

try {
  const peak = await measurePeak()
  say(`${device}, onnxruntime ${runtimeVersion}, node ${process.version}, ${threads} threads, ${cpus()[0]?.model}`)
  say(`peak of plain float32 products [${tokens}, ${hidden}] x [${hidden}, ${hidden}]: ${peak.toPrecision(3)} TFLOP/s`)
  const results = []
  for (const text of given.schemes.split(',')) {
    const scheme = parseScheme(text)
    const name = schemeName(scheme)
    const measured = new Map()
    let [weights, forwards] = [0, 0]
    const memory = watchMemory()
    for (const length of lengths) {
      const { times, forwards: runs, weights: count } = await measure(scheme, length)
      measured.set(length, times)
      weights = count
      forwards = runs
    }
    const { fixed, sample, step } = measured.get(tokens)
    // Forward and both gradients of each product, of weights and of attention.
    const flops = 6 * weights * tokens + 12 * tokens * tokens * hidden
    const presets = presetMinutes(measured, weights)
    const result = {
      scheme: name,
      ...{ stepMs: rounded(step), stepsPerSecond: rounded(1000 / step) },
      teraflops: rounded(flops / step / 1e9),
      shareOfPeak: rounded(flops / step / 1e9 / peak),
      forwardSamplesPerSecond: rounded((1000 * forwards) / sample),
      fixedSecondsPerBlock: rounded(fixed / 1000),
      deviceMiB: await memory(),
      hostMiB: Math.round(process.resourceUsage().maxRSS / 1024),
      stepMsByTokens: Object.fromEntries([...measured].map(([length, times]) => [length, rounded(times.step)])),
      presets,
      goals: IS_7B ? GOALS[text] : undefined,
    }
    results.push(result)
    const memoryText = `${result.deviceMiB === undefined ? '' : `device ${result.deviceMiB} MiB, `}host ${result.hostMiB} MiB`
    say(
      `\n${name}, ${tokens} tokens: a step ${result.stepMs} ms (${result.stepsPerSecond}/s), ${result.teraflops} TFLOP/s, ` +
        `${Math.round(100 * result.shareOfPeak)} % of the peak; forward ${result.forwardSamplesPerSecond} samples/s; ` +
        `${result.fixedSecondsPerBlock} s besides for each block; most memory so far: ${memoryText}`,
    )
    for (const [preset, { minutes, samples: some, tokens: length, epochs, scaled }] of Object.entries(presets)) {
      const goal = result.goals?.[preset]
      const against = goal === undefined ? '' : `, goal on an H200 ${goal} min: ${minutes <= goal ? 'met' : 'missed'}`
      const how = `${some} x ${length} tokens x ${epochs} epochs${scaled ? ', scaled' : ''}`
      say(`  ${blocks} blocks at ${preset} (${how}): ${minutes} min${against}`)
    }
  }
  if (given.json) {
    const where = { device, onnxruntime: runtimeVersion, node: process.version, threads, cpu: cpus()[0]?.model }
    const size = { hidden, ffn, tokens, blocks, samples, hiddenStates: given['hidden-states'] }
    console.log(JSON.stringify({ ...where, ...size, peakTeraflops: rounded(peak), schemes: results }, undefined, 2))
  }
} finally {
  rmSync(folder, { recursive: true, force: true })
}
