/** @file --config and --print-config: what is typed wins, paths are meant from the file, and what is printed makes the same run. */

import { mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { flagName } from '../../src/cli/flags.ts'
import { parseCommandLine } from '../../src/cli/main.ts'
import type { EvaluateCommand, QuantizeCommand } from '../../src/cli/options.ts'
import { QuantError } from '../../src/errors.ts'
import { runCli } from '../helpers/run-cli.ts'
import { tempDir } from '../helpers/temp-dir.ts'

const folder = tempDir()
mkdirSync(join(folder, 'sub'))
const file = join(folder, 'sub/run.json')

/** The command of arguments, with a configuration that holds these options. */
function parse(config: unknown, ...args: string[]): unknown {
  writeFileSync(file, typeof config === 'string' ? config : JSON.stringify(config))
  return parseCommandLine([...args, '--config', file])
}

const quantized = (config: object, ...args: string[]) =>
  (parse(config, 'quantize', ...args) as QuantizeCommand).options as object

test('options come from the file, with paths from its folder; what is typed wins and is meant from here', () => {
  const config = { model: '../m.onnx', calib: 'c.txt', evaluate: '/e.txt', scheme: 'w4a16', samples: 3, group: 64 }
  expect(quantized(config)).toEqual({
    ...config,
    model: join(folder, 'm.onnx'),
    calib: join(folder, 'sub/c.txt'),
  })
  expect(quantized(config, 'other.onnx', '--samples', '5')).toMatchObject({
    model: 'other.onnx',
    samples: 5,
    group: 64,
  })
})

test.each<[object, string[], object, string[]]>([
  [{ group: 64 }, ['--per-channel'], { perChannel: true }, ['group']],
  [{ perChannel: true }, ['--group', '32'], { group: 32 }, ['perChannel']],
  [{}, ['--wbits', '3'], { bits: 3 }, ['scheme']],
  [{ group: 64 }, ['--w3a16g32'], { scheme: 'w3a16g32' }, ['group']],
  [{ params: 'p' }, ['--save-params', 's'], { saveParams: 's' }, ['params']],
])('%o %o: a typed option replaces those that say the same otherwise', (config, args, expected, gone) => {
  const options = quantized({ model: 'm', scheme: 'w4a16', ...config }, ...args)
  expect(options).toMatchObject(expected)
  for (const key of gone) expect(options).not.toHaveProperty(key)
})

test('evaluate takes one too', () => {
  const config = { model: 'a', others: ['b'], text: 't.txt', windows: 2 }
  const at = (name: string) => join(folder, 'sub', name)
  expect((parse(config, 'evaluate') as EvaluateCommand).options).toEqual({
    ...{ model: at('a'), others: [at('b')], text: at('t.txt'), windows: 2 },
  })
  expect((parse(config, 'evaluate', 'x', 'u.txt') as EvaluateCommand).options).toEqual({
    ...{ model: 'x', text: 'u.txt', windows: 2 },
  })
})

test.each<[string, unknown, string, string | undefined]>([
  ['a misspelled key', { smaples: 3 }, 'there is no option "smaples"', 'Did you mean "samples"?'],
  ['the name of a flag', { 'seq-len': 3 }, 'there is no option "seq-len"', 'Did you mean "seqLen"?'],
  ['another name of a flag', { lr: 3 }, 'there is no option "lr"', 'Did you mean "learningRate"?'],
  [
    'a matter of the command line',
    { json: true },
    'there is no option "json"',
    'It belongs on the command line: --json.',
  ],
  ['nothing near', { zzzzzzz: 1 }, 'there is no option "zzzzzzz"', 'docs/config.md lists the keys.'],
  ['a wrong value', { samples: 'x' }, '`samples` takes a whole number from 1 up, not "x"', undefined],
  ['no preset', { preset: 'slow' }, 'there is no preset "slow"', 'There are fast, default, best, paper.'],
  ['a path that is a number', { calib: 3 }, '"calib" takes a path, not 3', undefined],
  [
    'a misspelled part of an override',
    { overrides: [{ pattern: 'a', bits: 8, grup: 3 }] },
    '`overrides` takes a list of objects { pattern, bits, group?, symmetric? }, not a value of type object',
    undefined,
  ],
])('%s is refused with file and key', (_, config, message, hint) => {
  let thrown: unknown
  try {
    parse({ model: 'm', scheme: 'w4a16', ...(config as object) }, 'quantize')
  } catch (error) {
    thrown = error
  }
  expect(thrown).toBeInstanceOf(QuantError)
  const { code, option } = thrown as QuantError
  expect({ code, ...(thrown as QuantError).words(flagName) }).toEqual({
    code: 'E_USAGE',
    message: `${file}: ${message}`,
    hint,
  })
  expect(option).toBe(Object.keys(config as object)[0])
})

test('what is no such file is refused', () => {
  expect(() => parse('{', 'quantize')).toThrow(`${file} is not JSON`)
  expect(() => parse('[]', 'quantize')).toThrow(`${file} does not hold an object`)
  expect(() => parse(' '.repeat(5 * 2 ** 20), 'quantize')).toThrow(/it has 5\.2 MB, more than 4\.2 MB/)
  expect(() => parseCommandLine(['quantize', '--config', join(folder, 'none.json')])).toThrow(
    /^cannot read the configuration in .*none\.json: ENOENT/,
  )
  // A mistake that was typed is not the file's.
  expect(() => parse({ model: 'm', scheme: 'w4a16', samples: 3 }, 'quantize', '--samples', '0')).toThrow(
    /^`samples` takes/,
  )
})

test('--print-config runs nothing, and its output is a configuration that prints itself', async () => {
  writeFileSync(join(folder, 'o.json'), '{"down_proj": "w8g64"}')
  const args = ['no-such-model', '--w3a16g64', '--overrides', join(folder, 'o.json'), '--print-config']
  const printed = await runCli('quantize', ...args)
  expect(printed.exitCode).toBe(0)
  expect(printed.said?.join('\n')).toMatch(/^note: left out, because the run adapts them to the model: .*samples 128/)
  const config = JSON.parse(printed.stdout) as object
  expect(config).toMatchObject({
    model: resolve('no-such-model'),
    ...{ scheme: 'w3a16', group: 64, symmetric: false, target: 'cpu', preset: 'default', learningRate: 0.05 },
    overrides: [{ pattern: 'down_proj', bits: 8, group: 64 }],
  })
  writeFileSync(file, printed.stdout)
  expect((await runCli('quantize', '--config', file, '--print-config')).stdout).toBe(printed.stdout)
  const evaluated = await runCli('evaluate', 'a', 'b', 't.txt', '--print-config')
  expect(JSON.parse(evaluated.stdout)).toEqual({
    ...{ model: resolve('a'), others: [resolve('b')], text: resolve('t.txt') },
  })
})
