/**
 * @file Time of one step of learning a Llama block: ours in onnxruntime and the reference's arithmetic in torch, in turns. It learns
 * clipping, at W4A4 transformations too.
 *
 *     node bench/train-step.js [--python PATH] [--threads N] [--scheme w4a4] [--rounds 7] [--hidden N]
 *     node bench/train-step.js --accuracy-level 4 [--threads N] [--scheme w4a16g32] [--rounds 7] [--hidden N]
 *
 * Without --python only ours is measured. With --accuracy-level 4 it is compared with level 0, with and without transformations.
 * Hidden sizes are 256, 512 and 1024 unless one is given, for which there are 64 tokens.
 */

import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { optimizerOf } from '../dist/autodiff/optimizers.js'
import { tensorOf } from '../dist/graph/tensor.js'
import { compile } from '../dist/kernels/session.js'
import { planBlock } from '../dist/quant/plan/plan-block.js'
import { trainingProgram } from '../dist/quant/learn/training-program.js'
import { ChannelRanges } from '../dist/quant/learn/channel-ranges.js'
import { blockParameters } from '../dist/quant/learn/learnables.js'
import { ParameterVector } from '../dist/quant/learn/parameters.js'
import { readWeights } from '../dist/quant/learn/block-version.js'
import { parseScheme, schemeName } from '../dist/quant/terms/scheme.js'
import { showHelp } from './help.js'
import { llamaBlock, noise } from './llama-block.js'

showHelp(import.meta.filename)

const { values: given } = parseArgs({
  options: {
    python: { type: 'string' },
    threads: { type: 'string', default: '2' },
    scheme: { type: 'string' },
    'accuracy-level': { type: 'string' },
    rounds: { type: 'string', default: '7' },
    hidden: { type: 'string' },
  },
})
const threads = Number(given.threads)
const SIZES = given.hidden
  ? [{ hidden: Number(given.hidden), ffn: (Number(given.hidden) * 11) / 4, tokens: 64, steps: 4 }]
  : [
      { hidden: 256, ffn: 704, tokens: 256, steps: 40 },
      { hidden: 512, ffn: 1408, tokens: 512, steps: 10 },
      { hidden: 1024, ffn: 2816, tokens: 512, steps: 4 },
    ]
const rounds = Number(given.rounds)
const median = numbers => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)]

/** Plan of a block with the transformations that the reference has: all but up-down. */
function planOf(block, scheme, { let: learned = scheme.activations !== undefined, accuracyLevel = 0 } = {}) {
  const values = new Map(block.nodes.flatMap(node => [...node.inputs, ...node.outputs].map(value => [value, value])))
  const select = mappings => mappings.filter(({ kind }) => kind !== 'up-down')
  return planBlock(block, { scheme, accuracyLevel, let: learned, values, select })
}

/** Seconds per step of our program. */
async function ours(size, scheme, planned) {
  const block = llamaBlock(size)
  const plan = planOf(block, scheme, planned)
  const method = { scheme, lwc: true, rounding: 'nearest', learningRate: 1e-2 }
  const start = { method, frozen: new Set(), ranges: new ChannelRanges(), weights: {} }
  // Transformations start from the identity: no activations have been measured.
  const identity = ({ name, initial }) => (typeof initial === 'number' ? initial : name.endsWith(':scale') ? 1 : 0)
  const vector = new ParameterVector(
    blockParameters(plan, start).parameters.map(parameter => ({ ...parameter, initial: identity(parameter) })),
  )
  const optimizer = optimizerOf('adamw', vector.segments)
  const session = await compile(trainingProgram(plan, vector, optimizer), { threads })
  const { steps, tokens, hidden } = size
  const zeros = () => tensorOf('float32', [vector.size], new Float32Array(vector.size))
  const feeds = {
    ...readWeights(block),
    steps: tensorOf('int64', [], BigInt64Array.of(BigInt(steps))),
    done: tensorOf('float32', [], Float32Array.of(0)),
    rate: tensorOf('float32', [steps], new Float32Array(steps).fill(1)),
    x: tensorOf('float32', [steps, 1, tokens, hidden], noise(steps * tokens * hidden, 1, 99)),
    y: tensorOf('float32', [steps, 1, tokens, hidden], noise(steps * tokens * hidden, 1, 98)),
    parameters: tensorOf('float32', [vector.size], vector.initial()),
    m: zeros(),
    v: zeros(),
  }
  const run = async () => {
    const started = performance.now()
    await session.run(feeds, ['losses'])
    return (performance.now() - started) / 1000 / steps
  }
  return { run, release: () => session.release() }
}

/** Seconds per step in torch: a process of its own answers one line a round. */
function torch(size, { weights: { bits, group }, activations }) {
  const { hidden, ffn, tokens, steps } = size
  const child = spawn(
    given.python,
    [
      resolve(import.meta.dirname, 'train_step.py'),
      hidden,
      ffn,
      tokens,
      steps,
      bits,
      group ?? 0,
      activations?.bits ?? 16,
      threads,
    ].map(String),
    {
      stdio: ['pipe', 'pipe', 'inherit'],
    },
  )
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const run = async () => {
    child.stdin.write('go\n')
    return Number((await lines.next()).value)
  }
  return { run, release: () => child.stdin.end() }
}

const LEVELS = [
  ['level 0', {}],
  ['level 4', { accuracyLevel: 4, let: false }],
  ['level 4 with transformations', { accuracyLevel: 4, let: true }],
]

/** Prints a step at each of LEVELS, measured in turns. */
async function compareLevels(scheme) {
  for (const size of SIZES) {
    const runs = []
    for (const [name, planned] of LEVELS) runs.push({ name, ...(await ours(size, scheme, planned)), seconds: [] })
    for (const { run } of runs) await run()
    for (let round = 0; round < rounds; round++) for (const { run, seconds } of runs) seconds.push(await run())
    const [first] = runs
    for (const { name, seconds, release } of runs) {
      const ratio = median(seconds.map((each, i) => each / first.seconds[i]))
      const step = `${(median(seconds) * 1000).toFixed(1)} ms a step, ratio ${ratio.toFixed(2)}`
      console.log(`${schemeName(scheme)} hidden ${size.hidden}, ${size.tokens} tokens, ${name}: ${step}`)
      await release()
    }
  }
}

if (given['accuracy-level'] === '4') {
  await compareLevels(parseScheme(given.scheme ?? 'w4a16g32'))
  process.exit()
}

const all = [parseScheme('w4a16', { perChannel: true }), parseScheme('w2a16g64'), parseScheme('w4a4')]
for (const scheme of given.scheme ? [parseScheme(given.scheme)] : all) {
  for (const size of SIZES) {
    const { hidden, tokens } = size
    const name = `${schemeName(scheme)} hidden ${hidden}, ${tokens} tokens`
    const mine = await ours(size, scheme)
    const theirs = given.python ? torch(size, scheme) : undefined
    await mine.run()
    await theirs?.run()
    const times = { mine: [], theirs: [], ratio: [] }
    for (let round = 0; round < rounds; round++) {
      const [a, b] = [await mine.run(), (await theirs?.run()) ?? NaN]
      times.mine.push(a)
      times.theirs.push(b)
      times.ratio.push(b / a)
    }
    await mine.release()
    theirs?.release()
    const ms = numbers => `${(median(numbers) * 1000).toFixed(1)} ms`
    console.log(
      `${name}: ${ms(times.mine)} a step` +
        (theirs ? `, torch ${ms(times.theirs)}, ratio ${median(times.ratio).toFixed(2)}` : ''),
    )
  }
}
