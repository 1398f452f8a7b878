/** @file Runs of the command line that end early: interrupted, killed, left alone by their parent, refused beside others. */

import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { type CliResult, runCli, startCli } from '../helpers/run-cli.ts'
import { tempDir } from '../helpers/temp-dir.ts'

const llama = resolve(import.meta.dirname, '../../fixtures/tiny-llama')
const calib = join(llama, 'calib.txt')
const folder = tempDir()
let count = 0
const fresh = (): string => {
  const path = join(folder, String(count++))
  mkdirSync(path)
  return path
}
const parsed = <T>(stdout: string): T => JSON.parse(stdout) as T

describe('a run that ends early', () => {
  const some = ['--group', '32', '--samples', '8', '--seq-len', '64', '--threads', '1', '--calib', calib]
  const run = (out: string, ...args: string[]) => ['quantize', llama, '--w4a16', ...some, ...args, '-o', out]

  /** Resolves once `ready` is; the run must not have ended before. */
  async function until(ready: () => boolean, ended: Promise<unknown>): Promise<void> {
    let over = false
    void ended.then(() => (over = true))
    while (!over && !ready()) await sleep(10)
    expect(over).toBe(false)
  }
  const files = (folder: string): string[] => (existsSync(folder) ? readdirSync(folder) : [])
  /** PID of the process that works in a folder. */
  const workerOf = (work: string): number => parsed<{ pid: number }>(readFileSync(join(work, 'lock.1'), 'utf8')).pid

  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('%s before anything is finished ends it, exits with %d and leaves nothing', async (signal, exitCode) => {
    const out = fresh()
    const { child, ended } = startCli(run(join(out, 'new', 'q.onnx'), '--epochs', '100000'))
    await until(() => files(join(out, 'new', '.q.onnx.omniquant')).some(name => name.startsWith('float-001')), ended)
    child.kill(signal)
    expect(await ended).toMatchObject({
      stdout: '',
      stderr: 'error: interrupted: nothing was written\n',
      exitCode,
    })
    expect(readdirSync(out)).toEqual([])
  })

  test('without a terminal a hang-up is nothing, whoever of its processes gets it (nohup)', async () => {
    const path = join(fresh(), 'q.onnx')
    const { child, ended } = startCli(run(path, '--epochs', '10', '--quiet'), { detached: true })
    await until(() => files(join(path, '../.q.onnx.omniquant')).some(name => name.startsWith('float-001')), ended)
    process.kill(-child.pid!, 'SIGHUP')
    expect(await ended).toEqual({ stdout: '', stderr: '', exitCode: 0 })
    expect(existsSync(path)).toBe(true)
  })

  test('afterwards the finished blocks are kept, and the same command goes on to the same bytes', async () => {
    const [out, whole] = [fresh(), fresh()]
    const path = join(out, 'q.onnx')
    const work = join(out, '.q.onnx.omniquant')
    const { child, ended } = startCli(run(path, '--epochs', '60'))
    await until(() => files(work).includes('block-000.record'), ended)
    child.kill('SIGINT')
    expect(await ended).toMatchObject({
      stdout: '',
      stderr:
        'error: interrupted: what was finished is kept\n' +
        'hint: Run the same command again to go on from there, or with --fresh to start over.\n',
      exitCode: 130,
    })
    expect(files(out)).toEqual(['.q.onnx.omniquant'])

    const other = await runCli(...run(path, '--epochs', '61'))
    expect(other.stderr).toMatch(/^error: an unfinished run .* its epochs was 60, now it is 61 .*\nhint: .*--fresh/)
    expect([other.exitCode, files(work).includes('block-000.record')]).toEqual([1, true])

    const again = await runCli(...run(path, '--epochs', '60'))
    expect([again.exitCode, again.stderr]).toEqual([0, ''])
    expect(again.stdout).toMatch(/^note: went on from an earlier run, which had finished [12] of 3 blocks$/m)
    expect(readdirSync(out).filter(name => name.startsWith('.'))).toEqual([])
    await runCli(...run(join(whole, 'q.onnx'), '--epochs', '60'))
    expect(readFileSync(path).equals(readFileSync(join(whole, 'q.onnx')))).toBe(true)
  })

  test('a process that is killed from elsewhere is reported, with what it was doing', async () => {
    const out = fresh()
    const work = join(out, '.q.onnx.omniquant')
    const { ended } = startCli(run(join(out, 'q.onnx'), '--epochs', '100000'))
    await until(() => files(work).some(name => name.startsWith('float-001')), ended)
    await sleep(300)
    process.kill(workerOf(work), 'SIGKILL')
    const { stdout, stderr, exitCode } = await ended
    expect([stdout, exitCode]).toEqual(['', 1])
    expect(stderr).toMatch(
      /^error: the process that works was killed, most likely because memory ran out, while: block 1\/3 .*\nhint: .*--seq-len/,
    )
    expect(readdirSync(out)).toEqual([])
  })

  test('whoever is left alone by its parent ends too', async () => {
    const out = fresh()
    const work = join(out, '.q.onnx.omniquant')
    const { child, ended } = startCli(run(join(out, 'q.onnx'), '--epochs', '100000'))
    await until(() => files(work).some(name => name.startsWith('float-001')), ended)
    const pid = workerOf(work)
    child.kill('SIGKILL')
    await ended
    const alive = () => {
      try {
        return process.kill(pid, 0)
      } catch {
        return false
      }
    }
    while (alive()) await sleep(20)
  })

  test('of three at once one works, and two say so', async () => {
    const out = fresh()
    const path = join(out, 'q.onnx')
    const runs = ['', fresh(), fresh()].map(dir =>
      startCli(run(path, '--epochs', '100000', ...(dir === '' ? [] : ['--work-dir', dir]))),
    )
    const refused: CliResult[] = []
    for (const { ended } of runs) void ended.then(result => refused.push(result))
    while (refused.length < 2) await sleep(20)
    for (const { stderr, exitCode } of refused) {
      expect(stderr).toMatch(
        /^error: process \d+ on \S+ is working on this output \(.*\)\nhint: Wait for it, .*-o\.\n$/,
      )
      expect(exitCode).toBe(1)
    }
    for (const { child } of runs) child.kill('SIGINT')
    const all = await Promise.all(runs.map(({ ended }) => ended))
    expect(all.map(({ exitCode }) => exitCode).sort()).toEqual([1, 1, 130])
    expect(readdirSync(out)).toEqual([])
  })

  test('--work-dir says where, and keeps what is there; a place that cannot be written is one error', async () => {
    const [out, work] = [fresh(), fresh()]
    writeFileSync(join(work, 'a file'), '')
    const inFile = await runCli(...run(join(out, 'q.onnx'), '--no-lwc', '--work-dir', join(work, 'a file')))
    expect(inFile).toMatchObject({ exitCode: 1, stderr: expect.stringMatching(/^error: cannot write to /) as string })
    expect(readdirSync(out)).toEqual([])
    for (const place of [work, join(work, 'sub')]) {
      const good = await runCli(...run(join(out, 'q.onnx'), '--no-lwc', '--work-dir', place, '--quiet', '--force'))
      expect([good.exitCode, good.stderr]).toEqual([0, ''])
      expect([readdirSync(work), files(out).filter(name => name.startsWith('.'))]).toEqual([['a file'], []])
    }
  })
})
