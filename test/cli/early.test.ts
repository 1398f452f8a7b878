/** @file Early refusals and remarks of the command line: outputs that are there, names elsewhere, idle options, logs, dry runs, signals. */

import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { runCli, startCli } from '../helpers/run-cli.ts'
import { tempDir } from '../helpers/temp-dir.ts'

const LLAMA = resolve(import.meta.dirname, '../../fixtures/tiny-llama')
const folder = tempDir()
let count = 0
const fresh = (): string => {
  const path = join(folder, String(count++))
  mkdirSync(path)
  return path
}
const rounding = (out: string, ...more: string[]) => ['quantize', LLAMA, '--w4a16', '--no-lwc', '-o', out, ...more]

test('an output that is there: the same command says so, another one is refused, --force replaces it', async () => {
  const out = fresh()
  expect((await runCli(...rounding(out))).exitCode).toBe(0)
  const bytes = readFileSync(join(out, 'model.onnx'))
  const same = await runCli(...rounding(out))
  expect([same.exitCode, same.stdout]).toEqual([1, ''])
  expect(same.stderr).toMatch(/^error: \S+model.onnx is there already, made with the same options\nhint: .*--force/)
  const other = await runCli(...rounding(out, '--group', '64'))
  expect(other.stderr).toMatch(/is there already, made with other options \(w4a16g32\)\nhint: .* -o.* --force/)
  expect(readFileSync(join(out, 'model.onnx')).equals(bytes)).toBe(true)
  expect((await runCli(...rounding(out, '--group', '64', '--force'))).exitCode).toBe(0)
  expect(readFileSync(join(out, 'model.onnx')).equals(bytes)).toBe(false)
})

test('the same rule holds in the layout of transformers.js, and for files of others', async () => {
  const out = fresh()
  mkdirSync(join(out, 'onnx'))
  writeFileSync(join(out, 'onnx/model_q4.onnx'), 'of the hub')
  const refused = await runCli(...rounding(out, '--layout', 'transformers.js'))
  expect(refused.stderr).toMatch(/^error: \S+onnx\/model_q4.onnx is there already\nhint: .*--force/)
  expect((await runCli(...rounding(out, '--layout', 'transformers.js', '--force'))).exitCode).toBe(0)
})

test('an output that is the source by a link to its folder is refused before anything is written', async () => {
  const link = join(fresh(), 'link')
  symlinkSync(LLAMA, link)
  const { stderr, exitCode } = await runCli(...rounding(link))
  expect([stderr, exitCode]).toEqual([expect.stringContaining('is what the model is read from'), 1])
  const { stderr: forced } = await runCli(...rounding(link, '--force'))
  expect(forced).toContain('is what the model is read from')
})

test.each<[string, string[], RegExp]>([
  [
    'a name of the Hub',
    ['meta-llama/Llama-3.2-1B'],
    /^error: there is no folder meta-llama\/Llama-3.2-1B .*\nhint: .*optimum-cli export onnx --model meta-llama\/Llama-3.2-1B /,
  ],
  [
    'an address',
    ['https://huggingface.co/a/b'],
    /^error: https:\/\/huggingface.co\/a\/b is an address.*\nhint: .*optimum-cli/,
  ],
  ['a GGUF file', ['x.gguf'], /^error: x.gguf is a model of llama.cpp.*\nhint: .*optimum-cli/],
  ['a checkpoint', ['model.safetensors'], /^error: model.safetensors is a checkpoint.*\nhint: .*optimum-cli/],
])('%s: a sentence about exporting', async (_, args, message) => {
  const { stderr, exitCode } = await runCli('quantize', ...args, '--w4a16')
  expect([stderr, exitCode]).toEqual([expect.stringMatching(message), 1])
})

test('a folder with a checkpoint only', async () => {
  const path = fresh()
  writeFileSync(join(path, 'model.safetensors'), 'weights')
  const { stderr } = await runCli('inspect', path)
  expect(stderr).toMatch(/^error: there is no .onnx file in .*model.safetensors\nhint: Export it .*optimum-cli/)
})

test.each<[string, RegExp]>([
  ['/proc/omniquant-x', /^error: cannot (write|work|copy) .*\/proc\/omniquant-x.*\nhint: .*\n$/],
  ['/dev/full', /^error: .*\/dev\/full.*\nhint: .*\n$/],
])('-o %s is one message and no hang', async (out, message) => {
  const { stdout, stderr, exitCode } = await runCli(...rounding(out))
  expect([stdout, exitCode]).toEqual(['', 1])
  expect(stderr).toMatch(message)
})

test('a work folder that is removed while it is worked in is one message', async () => {
  const out = fresh()
  const work = join(out, '.model.onnx.omniquant')
  const little = ['--samples', '4', '--seq-len', '32', '--epochs', '3000', '--calib', join(LLAMA, 'calib.txt')]
  const { ended } = startCli(['quantize', LLAMA, '--w4a16', ...little, '--threads', '1', '-o', out])
  for (let i = 0; i < 3000 && !existsSync(join(work, 'calibration.record')); i++) await sleep(20)
  rmSync(work, { recursive: true, force: true })
  const { stderr, exitCode } = await ended
  expect(exitCode).toBe(1)
  expect(stderr).toMatch(/^error: [^\n]+\n(hint: [^\n]+\n)?$/)
})

test('a text of nine words is too little to learn from, a short one is a note', async () => {
  const path = fresh()
  const nine = join(path, 'nine.txt')
  writeFileSync(nine, 'one two three four five six seven eight nine')
  const args = ['quantize', LLAMA, '--w4a16', '--samples', '4', '--epochs', '1', '--threads', '1']
  const refused = await runCli(...args, '--seq-len', '8', '--calib', nine, '-o', join(path, 'q'))
  expect(refused.stderr).toMatch(/nine.txt has \d+ tokens: too few to learn from\nhint: Give some thousand words/)
  expect(readdirSync(path)).toEqual(['nine.txt'])
  const short = join(path, 'short.txt')
  writeFileSync(short, readFileSync(join(LLAMA, 'calib.txt')).subarray(0, 400))
  const told = await runCli(...args, '--seq-len', '64', '--calib', short, '-o', join(path, 'q'))
  expect(told.exitCode).toBe(0)
  expect(told.stdout).toMatch(/^note: the text is short: 4 samples of 64 tokens overlap in its \d+ tokens$/m)
})

test('options without effect are said to be, before the work and at its end', async () => {
  const given = ['--epochs', '3', '--lr', '0.1', '--calib', join(LLAMA, 'calib.txt'), '--let-lr', '0.1']
  const { stdout, said, exitCode } = await runCli(...rounding(fresh(), ...given))
  expect(exitCode).toBe(0)
  const notes = [
    'note: --calib has no effect: nothing is learned or observed',
    'note: --epochs, --lr, --let-lr have no effect: nothing is learned',
  ]
  for (const note of notes) {
    expect(stdout).toContain(`${note}\n`)
    expect(said).toContain(note)
  }
})

test('the plan and the blocks are told on stderr without a terminal; --log has every event', async () => {
  const path = fresh()
  const log = join(path, 'run.jsonl')
  const out = join(path, 'q')
  const { said, stderr } = await runCli(...rounding(out, '--verbose', '--log', log))
  expect(said).toEqual(
    expect.arrayContaining([
      `model: ${LLAMA}/model.onnx (812 kB, 21 linears in 3 blocks)`,
      expect.stringMatching(/^scheme: w4a16g32 for cpu, about 241 kB \(30 %\), 5\.13 bits a quantized weight$/),
      `output: ${out}/model.onnx`,
      expect.stringMatching(/^block 3\/3 {2}\d/),
    ]),
  )
  expect(stderr).toMatch(/^at \d[^\n]*\nwork: .*\n(at .*\n)*at \d.* {2}writing the output/)
  const lines = readFileSync(log, 'utf8')
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line) as Record<string, unknown>)
  for (const line of lines) expect(new Date(line['time'] as string).getTime()).toBeGreaterThan(0)
  const types = lines.map(({ type }) => type)
  expect(types).toEqual(
    expect.arrayContaining(['started', 'device', 'planned', 'blockDone', 'saving', 'saved', 'done']),
  )
  const again = await runCli(...rounding(out, '--quiet', '--log', log))
  expect(again.said).toBeUndefined()
  const last = readFileSync(log, 'utf8').trimEnd().split('\n').at(-1)!
  expect(JSON.parse(last)).toMatchObject({ type: 'failed', error: { code: 'E_OUTPUT' } })
  const wrong = await runCli(...rounding(join(path, 'r'), '--log', join(LLAMA, 'config.json')))
  expect(wrong.stderr).toMatch(/^error: .*config.json is there and is no log\n/)
})

describe('inspect as a dry run', () => {
  test('size, bits, memory, disk and time; fewer bits are recommended where lm_head and embedding are large', async () => {
    const flags = [
      '--w3a16',
      '--lm-head',
      'float',
      '--embedding',
      'float',
      '--samples',
      '4',
      '--seq-len',
      '32',
      '--epochs',
      '1',
    ]
    const { stdout, exitCode } = await runCli('inspect', LLAMA, ...flags)
    expect(exitCode).toBe(0)
    expect(stdout).toMatch(/^a run with w3a16g32 for cpu would take$/m)
    expect(stdout).toMatch(/^ {2}bits +3 stored in 4; 5\.\d+ for each quantized weight/m)
    expect(stdout).toMatch(/^ {2}memory +about 5\d\d MB$/m)
    expect(stdout).toMatch(/^ {2}time +about [\d.]+ s for the blocks/m)
    expect(stdout).toMatch(
      /^advice: lm_head and embedding are \d+ % of the file: --lm-head 4 --embedding 4 make it \d+ % smaller$/m,
    )
    const { stdout: none } = await runCli('inspect', LLAMA, '--w4a16', '--no-lwc')
    expect(none).not.toMatch(/^advice|^ {2}time/m)
  })

  test('the size is that of the output', async () => {
    const { stdout } = await runCli('inspect', LLAMA, '--w4a16', '--group', '64', '--no-lwc', '--json')
    const { dryRun } = JSON.parse(stdout) as { dryRun: { sizeAfter: number } }
    const run = await runCli('quantize', LLAMA, '--w4a16', '--group', '64', '--no-lwc', '-o', fresh(), '--json')
    const { sizeAfter } = JSON.parse(run.stdout) as { sizeAfter: number }
    // Names and nodes are not counted.
    expect(Math.abs(sizeAfter - dryRun.sizeAfter)).toBeLessThan(20_000)
  })
})

test('help pages: help, help quantize', async () => {
  const [all, one] = [await runCli('help'), await runCli('help', 'quantize')]
  expect([all.exitCode, one.exitCode]).toEqual([0, 0])
  expect(all.stdout).toContain('omniquant quantize model.onnx --w4a16')
  expect(one.stdout).toContain('--force')
})

test('SIGTERM ends with 143', async () => {
  const out = fresh()
  const little = ['--samples', '4', '--seq-len', '32', '--epochs', '100000', '--calib', join(LLAMA, 'calib.txt')]
  const { child, ended } = startCli(['quantize', LLAMA, '--w4a16', ...little, '--threads', '1', '-o', out])
  for (let i = 0; i < 3000 && !existsSync(join(out, '.model.onnx.omniquant/calibration.record')); i++) await sleep(20)
  child.kill('SIGTERM')
  const { exitCode, stderr } = await ended
  expect([exitCode, stderr]).toEqual([143, 'error: interrupted: nothing was written\n'])
})
