/** @file The terminal of a run is closed: the run ends. Without a terminal it goes on (main.test.ts). */

import { spawn, spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { unless } from '../helpers/unless.ts'
import { testFolder } from '../helpers/test-folder.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const FIXTURE = join(ROOT, 'fixtures/tiny-llama')
const OPTIONS = '--w4a16 --group 32 --samples 8 --seq-len 64 --threads 1 --epochs 100000'

/** util-linux's `script` gives a command a terminal of its own. */
const hasScript = spawnSync('script', ['--version'], { encoding: 'utf8' }).stdout?.includes('util-linux') ?? false

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

async function until(ready: () => boolean): Promise<void> {
  while (!ready()) await sleep(20)
}

test(
  'a terminal that is closed ends the run, which leaves nothing',
  unless(hasScript ? undefined : 'there is no program `script` here'),
  async () => {
    const out = testFolder()
    const work = join(out, '.q.onnx.omniquant')
    const quoted = [join(ROOT, 'bin/omniquant.js'), FIXTURE, join(FIXTURE, 'calib.txt'), join(out, 'q.onnx')]
    const [bin, model, calib, output] = quoted.map(path => `'${path}'`)
    const command = `exec '${process.execPath}' ${bin} quantize ${model} ${OPTIONS} --calib ${calib} -o ${output}`
    const terminal = spawn('script', ['-qfc', command, '/dev/null'], { stdio: 'ignore' })
    await until(() => existsSync(work) && readdirSync(work).some(name => name.startsWith('float-001')))
    const { pid } = JSON.parse(readFileSync(join(work, 'lock.1'), 'utf8')) as { pid: number }
    onTestFinished(() => void (isAlive(pid) && process.kill(pid, 'SIGKILL')))
    // Its end of the terminal goes with it.
    terminal.kill('SIGKILL')
    await until(() => !isAlive(pid) && readdirSync(out).length === 0)
    expect(isAlive(pid)).toBe(false)
  },
)
