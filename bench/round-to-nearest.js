/**
 * @file Rounding a model to nearest: `omniquant quantize --no-lwc` and, with --python, onnxruntime's Python quantizer on the same linears,
 * whole commands in turns. PATH has onnx and onnxruntime. Prints seconds, GB of rounded weights a second (as stored) and peak memory. Linux: /usr/bin/time, dd.
 *
 *     node bench/round-to-nearest.js MODEL.onnx [--python PATH] [--rounds 5] [--groups 128,32] [--bits 4] [--cold] [--exclude /lm_head/MatMul]
 */

import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { inspectModel } from '../dist/quant/inspect.js'
import { showHelp, wrongUsage } from './help.js'

showHelp(import.meta.filename)

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    python: { type: 'string' },
    rounds: { type: 'string', default: '5' },
    groups: { type: 'string', default: '128,32' },
    bits: { type: 'string', default: '4' },
    /** Drop the model's files from the page cache before every run, so that they are read from disk. */
    cold: { type: 'boolean', default: false },
    /** Node outside the blocks that the Python quantizer would round too. */
    exclude: { type: 'string', default: '/lm_head/MatMul' },
  },
})
const [model] = positionals
if (!model) wrongUsage(import.meta.filename, 'MODEL.onnx is missing')
const { bits } = values
const median = numbers => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)]

const { blocks, files } = await inspectModel({ model })
const gigabytes = blocks.flatMap(({ linears }) => linears).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0) / 1e9

/** Runs a command that writes into an empty folder beside the model. Gives wall and processor seconds, MB resident, bytes written. */
function measure({ commandFor, reading }) {
  const folder = mkdtempSync(join(dirname(resolve(model)), '.rounded-'))
  try {
    if (values.cold) for (const file of files) spawnSync('dd', [`if=${file}`, 'iflag=nocache', 'count=0'])
    const [command, ...args] = commandFor(folder)
    const { status, stderr, stdout } = spawnSync('/usr/bin/time', ['-f', '\n%e %U %S %M', command, ...args], {
      encoding: 'utf8',
    })
    if (status !== 0) throw new Error(`${command} failed:\n${stderr}`)
    const [wall, user, system, resident] = stderr.trim().split('\n').at(-1).split(' ').map(Number)
    const written = statSync(join(folder, 'model.onnx.data'), { throwIfNoEntry: false })?.size ?? 0
    return { wall, processor: user + system, resident: resident / 1024, written, reading: reading(stdout) }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

console.log(
  `${model}: ${gigabytes.toFixed(2)} GB in ${blocks.length} blocks, ${values.cold ? 'read from disk' : 'in the page cache'}`,
)
for (const group of values.groups.split(',')) {
  const ours = folder => [
    process.execPath,
    resolve(import.meta.dirname, '../bin/omniquant.js'),
    ...[
      'quantize',
      model,
      `--w${bits}a16`,
      '--group',
      group,
      '--no-lwc',
      '--force',
      '--json',
      '-o',
      join(folder, 'model.onnx'),
    ],
  ]
  const theirs = folder => [
    values.python,
    resolve(import.meta.dirname, 'round_to_nearest.py'),
    ...[model, join(folder, 'model.onnx'), bits, group, values.exclude],
  ]
  // `reading` is the time each side itself gives for reading and rounding, without starting and writing.
  const sides = {
    omniquant: {
      commandFor: ours,
      reading: out => JSON.parse(out).blocks.reduce((sum, { elapsedMs }) => sum + elapsedMs, 0) / 1000,
    },
    ...(values.python && {
      python: {
        commandFor: theirs,
        reading: out => {
          const [load, quantize] = out.trim().split('\n').at(-1).split(' ').map(Number)
          return load + quantize
        },
      },
    }),
  }
  const names = Object.keys(sides)
  for (const name of names) measure(sides[name]) // to warm up
  const runs = Object.fromEntries(names.map(name => [name, []]))
  for (let round = 0; round < Number(values.rounds); round++)
    for (const name of names) runs[name].push(measure(sides[name]))
  for (const name of names) {
    const of = key => median(runs[name].map(run => run[key]))
    console.log(
      `${bits} bits, groups of ${group}, ${name}: ${of('wall').toFixed(2)} s (${runs[name].map(({ wall }) => wall).join(' ')}), ` +
        `${(gigabytes / of('wall')).toFixed(2)} GB/s; reading and rounding ${of('reading').toFixed(2)} s, ${(gigabytes / of('reading')).toFixed(2)} GB/s; ${of('processor').toFixed(2)} s of processor, ` +
        `${of('resident').toFixed(0)} MB resident, ${(of('written') / 1e6).toFixed(0)} MB written`,
    )
  }
  if (!values.python) continue
  const ratio = key => median(runs.python.map((run, i) => run[key] / runs.omniquant[i][key])).toFixed(2)
  console.log(
    `  Python takes ${ratio('wall')} x the time (reading and rounding ${ratio('reading')} x), ${ratio('processor')} x the processor's, ${ratio('resident')} x the memory`,
  )
}
