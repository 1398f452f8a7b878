/** @file Results that cannot be written: one message, exit code 1, and no earlier error is hidden. */

import { closeSync, existsSync, openSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { startCli } from '../helpers/run-cli.ts'
import { unless } from '../helpers/unless.ts'

const model = resolve(import.meta.dirname, '../../fixtures/tiny-llama/model.onnx')
const FULL = '/dev/full'

async function runOnFullDisk(...args: string[]): Promise<{ stderr: string; exitCode: number | null }> {
  const file = openSync(FULL, 'w')
  try {
    const { stderr, exitCode } = await startCli(args, { stdout: file }).ended
    return { stderr, exitCode }
  } finally {
    closeSync(file)
  }
}

describe('on a full disk', unless(existsSync(FULL) ? undefined : 'no /dev/full'), () => {
  test.each([[['inspect', model]], [['inspect', model, '--json']], [['--help']]])('%j', async args => {
    expect(await runOnFullDisk(...args)).toEqual({
      stderr: expect.stringMatching(/^error: the result cannot be written to stdout: ENOSPC.*\nhint: .*\n$/) as string,
      exitCode: 1,
    })
  })

  test('an error from before is the one that is told', async () => {
    const path = join(model, 'nowhere')
    expect(await runOnFullDisk('inspect', path, '--json')).toEqual({
      stderr: expect.stringMatching(/^error: .*nowhere is not there.*\n(hint: .*\n)?$/) as string,
      exitCode: 1,
    })
    expect((await runOnFullDisk('inspect', '--nonsense', '--json')).exitCode).toBe(2)
  })
})

test('a reader that has seen enough is no error', async () => {
  const { child, ended } = startCli(['inspect', model, '--json'])
  child.stdout!.destroy()
  expect(await ended).toEqual({ stdout: '', stderr: '', exitCode: 0 })
})
