/** @file Without onnxruntime's library each command says how to install it, and nothing else. */

import { rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { copyPackage } from '../helpers/copied-package.ts'
import { runCli, startCli } from '../helpers/run-cli.ts'
import { tempDir } from '../helpers/temp-dir.ts'

const MODEL = resolve(import.meta.dirname, '../../fixtures/tiny-llama')
const package_ = join(tempDir(), 'package')

/** Arguments of commands that do not take a model and a text. */
const ARGUMENTS: Readonly<Record<string, readonly string[]>> = {
  quantize: [MODEL, '--w4a16', '-o', join(package_, 'q.onnx')],
  inspect: [MODEL],
  doctor: [],
}

/** Commands that `omniquant --help` lists. */
async function commands(): Promise<string[]> {
  const { stdout } = await runCli('--help')
  const [, listed] = /^Commands:\n((?: .*\n)+)/m.exec(stdout)!
  return [...listed!.matchAll(/^ {2}(\w+)/gm)].map(([, name]) => name!).filter(name => name !== 'help')
}

const said = (problem: string): RegExp =>
  new RegExp(
    `^error: onnxruntime-node is ${problem}.*\nhint: .*\`ONNXRUNTIME_NODE_INSTALL=skip npm install omniquant\`.*\n$`,
  )

describe('without onnxruntime', () => {
  let names: string[]
  beforeAll(async () => {
    const { runtime } = copyPackage(package_)
    rmSync(join(runtime, 'onnxruntime_binding.node'))
    // A completion runs nothing.
    names = (await commands()).filter(name => name !== 'completion')
  })

  async function refusals(problem: string): Promise<void> {
    for (const name of names) {
      const args = [name, ...(ARGUMENTS[name] ?? [MODEL, join(MODEL, 'eval.txt')])]
      const { stdout, stderr, device, exitCode } = await startCli(args, { folder: package_ }).ended
      expect({ stdout, device, exitCode }, name).toEqual({ stdout: '', device: undefined, exitCode: 1 })
      expect(stderr, name).toMatch(said(problem))
    }
  }

  test('the library is missing', async () => {
    expect(names).toEqual(expect.arrayContaining(['quantize', 'inspect', 'evaluate', 'doctor']))
    await refusals('installed without its library: .*napi-v6')
  })

  test('the package is missing', async () => {
    rmSync(join(package_, 'node_modules/onnxruntime-node'), { recursive: true })
    await refusals('not installed')
  })
})
