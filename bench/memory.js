/**
 * @file Peak memory of a quantization, on Linux: anonymous pages of both processes. Mapped files are told apart, because the system takes
 * their pages back when it needs memory.
 *
 *     node bench/memory.js MODEL [flags of quantize]
 */

import { spawn } from 'node:child_process'
import { readFileSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import process from 'node:process'
import { clearInterval, setInterval } from 'node:timers'
import { analyze } from '../dist/quant/find/analyze.js'
import { showHelp, wrongUsage } from './help.js'

showHelp(import.meta.filename)
const [model, ...flags] = process.argv.slice(2)
if (!model) wrongUsage(import.meta.filename, 'MODEL is missing')
const output = resolve('out/bench-memory')
const { blocks } = await analyze(model, 16)
const sizes = blocks.map(({ linears }) => linears.reduce((sum, l) => sum + 4 * l.inFeatures * l.outFeatures, 0))
const largest = Math.max(...sizes) / 2 ** 20

rmSync(output, { recursive: true, force: true })
const started = performance.now()
const child = spawn(
  process.execPath,
  ['bin/omniquant.js', 'quantize', model, '-o', output, '--force', '--quiet', ...flags],
  {
    stdio: ['ignore', 'inherit', 'inherit'],
  },
)

/** Megabytes of the process and its children, by the names of /proc/PID/status. */
function measure(pid) {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8')
    const field = name => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)[1]) / 1024
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean)
    return children
      .map(measure)
      .reduce((sum, { anonymous, mapped }) => ({ anonymous: sum.anonymous + anonymous, mapped: sum.mapped + mapped }), {
        anonymous: field('RssAnon'),
        mapped: field('RssFile'),
      })
  } catch {
    return { anonymous: 0, mapped: 0 } // it has ended
  }
}

const peak = { anonymous: 0, mapped: 0 }
const timer = setInterval(() => {
  const now = measure(child.pid)
  for (const name of Object.keys(peak)) peak[name] = Math.max(peak[name], now[name])
}, 20)
child.on('close', code => {
  clearInterval(timer)
  const seconds = (performance.now() - started) / 1000
  rmSync(output, { recursive: true, force: true })
  if (code !== 0) process.exit(1)
  const target = 3 * largest + 500
  console.log(
    `${join(model)}: ${blocks.length} blocks, the largest ${largest.toFixed(0)} MiB as float32; ${flags.join(' ')}\n` +
      `peak anonymous memory ${peak.anonymous.toFixed(0)} MiB (3 x largest + 500 = ${target.toFixed(0)} MiB), ` +
      `mapped files ${peak.mapped.toFixed(0)} MiB, ${seconds.toFixed(0)} s`,
  )
})
