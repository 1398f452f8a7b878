import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { testFolder } from '../helpers/test-folder.ts'

const NET = resolve(import.meta.dirname, '../../tools/net.js')
const net = (...args: readonly string[]) => spawnSync(process.execPath, [NET, ...args], { encoding: 'utf8' })

interface Result {
  readonly meta: Readonly<Record<string, string>>
  readonly cases: Readonly<
    Record<string, { readonly commands: readonly Record<string, unknown>[]; readonly files: Record<string, string> }>
  >
}

test('two runs of a case say the same: hashes of what was written, the report without times and places, refusals', () => {
  const folder = testFolder()
  // Of the zoo nothing is needed: the fixture is a model too.
  mkdirSync(join(folder, 'shared/zoo'), { recursive: true })
  const results = ['a.json', 'b.json'].map(name => {
    const out = join(folder, name)
    const only = '^fixture: (refused-bits|round-w8a8-portable|printed)$'
    expect(net(join(folder, 'shared'), out, '--only', only).stderr).toBe('')
    return JSON.parse(readFileSync(out, 'utf8')) as Result
  })
  expect(results[0]).toEqual(results[1])
  const { cases } = results[0]!
  expect(Object.keys(cases)).toEqual(['fixture: printed', 'fixture: refused-bits', 'fixture: round-w8a8-portable'])
  expect(cases['fixture: refused-bits']).toEqual({
    commands: [{ exitCode: 2, document: { error: expect.objectContaining({ code: 'E_SCHEME' }) as unknown } }],
    files: {},
  })
  const { files, commands } = cases['fixture: round-w8a8-portable']!
  expect(files['out/model.onnx']).toMatch(/^[0-9a-f]{64}$/)
  expect(Object.keys(files)).toContain('out/tokenizer.json')
  expect(commands[0]).toMatchObject({
    exitCode: 0,
    document: { output: '<here>/out/model.onnx', scheme: 'w8a8', blocks: [{ index: 0 }, { index: 1 }, { index: 2 }] },
  })
  expect(JSON.stringify(cases)).not.toMatch(/elapsedMs|omniquant-net-/)
})

test('two results are compared row by row', () => {
  const folder = testFolder()
  const meta = { commit: 'one', node: 'v20', onnxruntime: '1.30.0', machine: 'here' }
  const row = (hash: string, note = 'a note') => ({
    commands: [{ exitCode: 0, document: { notes: [note] } }],
    files: { 'out/model.onnx': hash },
  })
  const write = (name: string, commit: string, cases: Readonly<Record<string, object>>) => {
    writeFileSync(join(folder, name), JSON.stringify({ meta: { ...meta, commit }, cases }))
    return join(folder, name)
  }
  const before = write('a.json', 'one', { same: row('aa'), bytes: row('aa'), words: row('aa'), gone: row('aa') })
  const after = write('b.json', 'two', {
    same: row('aa'),
    bytes: row('bb'),
    words: row('aa', 'other'),
    fresh: row('aa'),
  })
  const compared = net('--compare', before, after)
  expect(compared.stdout.split('\n')).toEqual([
    'missing  gone',
    'new      fresh',
    'changed  bytes',
    '           files / out/model.onnx: "aa" -> "bb"',
    'changed  words',
    '           commands / 0 / document / notes / 0: "a note" -> "other"',
    '1 equal, 2 changed, 1 missing, 1 new',
    '',
  ])
  expect(compared.status).toBe(1)
  expect(net('--compare', before, after, '--files').stdout).not.toContain('words')
  expect(net('--compare', before, before)).toMatchObject({
    stdout: '4 equal, 0 changed, 0 missing, 0 new\n',
    status: 0,
  })
})
