/** @file docs/json.md holds for real reports: fields, types, and which may be absent. */

import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { runCli } from '../helpers/run-cli.ts'
import { tempDir } from '../helpers/temp-dir.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const LLAMA = join(ROOT, 'fixtures/tiny-llama')
const folder = tempDir()

interface Field {
  readonly type: string
  readonly optional: boolean
}

/** Fields of the table under a heading, by path. */
function documented(heading: string): Map<string, Field> {
  const text = readFileSync(join(ROOT, 'docs/json.md'), 'utf8')
  const section = text.split(/^## /m).find(part => part.startsWith(heading))
  const rows = [...section!.matchAll(/^\| `([^`]+)`(\?)? \| (\w+) \|/gm)]
  return new Map(rows.map(([, path, mark, type]) => [path!, { type: type!, optional: mark === '?' }]))
}

/** Leaves of a document with their types; what the table calls an object is a leaf. */
function leaves(value: unknown, fields: ReadonlyMap<string, Field>, path = ''): [string, string][] {
  if (fields.get(path)?.type === 'object') return [[path, typeof value]]
  if (Array.isArray(value)) return value.flatMap(each => leaves(each, fields, `${path}[]`))
  if (typeof value !== 'object' || value === null) return [[path, typeof value]]
  return Object.entries(value).flatMap(([key, each]) => leaves(each, fields, path === '' ? key : `${path}.${key}`))
}

/** Differences between a document and the table under a heading. @param only field that the table is about. */
function differences(document: object, heading: string, only = ''): string[] {
  const fields = documented(heading)
  const found = new Map(leaves(document, fields).filter(([path]) => path.startsWith(only)))
  return [
    ...[...found].flatMap(([path, type]) => {
      const field = fields.get(path)
      if (!field) return [`${path} is not documented`]
      return field.type === type ? [] : [`${path} is a ${type}, not a ${field.type}`]
    }),
    ...[...fields].flatMap(([path, { optional }]) => (optional || found.has(path) ? [] : [`${path} is missing`])),
  ]
}

const output = join(folder, 'q')
const LITTLE = [
  '--samples',
  '4',
  '--seq-len',
  '32',
  '--epochs',
  '1',
  '--threads',
  '1',
  '--calib',
  join(LLAMA, 'calib.txt'),
]
let report: Record<string, unknown>
beforeAll(async () => {
  const { stdout, exitCode } = await runCli('quantize', LLAMA, '--w3a16', ...LITTLE, '-o', output, '--json')
  expect(exitCode).toBe(0)
  report = JSON.parse(stdout) as Record<string, unknown>
})

test('the report of quantize is as docs/json.md has it', () => {
  expect(differences(report, '`quantize`')).toEqual([])
})

test('it says what happened: bits in the file, perplexity on held-out text, error, companions, the next command', () => {
  const { storage, check, error, copied, next, calibration } = report as Record<string, Record<string, number>>
  expect(storage).toMatchObject({ bits: 3, storedBits: 4 })
  expect(check!['windows']).toBe(8)
  expect(check!['ratio']).toBeCloseTo(check!['quantized']! / check!['float']!, 12)
  expect(check!['ratio']).toBeGreaterThan(0.9)
  expect(check!['ratio']).toBeLessThan(2)
  expect(error!['learned']).toBe(3)
  expect(error!['left']).toBeLessThanOrEqual(1)
  expect(calibration).toMatchObject({ file: 'calib.txt', samples: 4, seqLen: 32 })
  expect(copied).toEqual(['config.json', 'tokenizer.json', 'tokenizer_config.json'])
  expect(next).toBe(`omniquant evaluate ${output} --text FILE --against ${LLAMA}`)
})

test('inspect of the output: bits, groups and provenance, as documented', async () => {
  const { stdout, exitCode } = await runCli('inspect', output, '--json')
  expect(exitCode).toBe(0)
  const inspected = JSON.parse(stdout) as { quantized: Record<string, unknown> }
  expect(differences(inspected, '`inspect`', 'quantized')).toEqual([])
  expect(inspected.quantized).toMatchObject({
    groups: [
      { op: 'GatherBlockQuantized', bits: 4, group: 32, count: 1 },
      { op: 'MatMulNBits', bits: 4, group: 32, count: 22 },
    ],
    bitsPerWeight: (report['storage'] as Record<string, number>)['bitsPerQuantizedWeight'],
    provenance: {
      scheme: 'w3a16g32',
      target: 'cpu',
      seed: '0',
      calibration: 'calib.txt',
      calibration_tokens: '4 x 32',
    },
  })
  const text = await runCli('inspect', output)
  expect(text.stdout).toMatch(/^quantized by omniquant$/m)
  expect(text.stdout).toMatch(/^ {2}MatMulNBits +22 {2}4 bits {2}groups of 32 {2}zero points {2}150 k weights$/m)
})

test('config.json says how the model is quantized, and keeps its other keys', () => {
  const [source, copy] = [LLAMA, output].map(
    from => JSON.parse(readFileSync(join(from, 'config.json'), 'utf8')) as Record<string, unknown>,
  )
  const { quantization_config: section, ...rest } = copy!
  expect(rest).toEqual(source)
  expect(Object.keys(rest)).toEqual(Object.keys(source!))
  const { digest } = report['calibration'] as { digest: string }
  expect(section).toMatchObject({ quant_method: 'omniquant', file: 'model.onnx', bits: 3, group_size: 32, sym: false })
  expect(section).toMatchObject({ calibration_digest: digest })
})

test('an error is as documented', async () => {
  const { stdout, exitCode } = await runCli('quantize', 'nowhere.onnx', '--w4a16', '--json')
  expect(exitCode).toBe(1)
  expect(differences(JSON.parse(stdout) as object, 'A command that fails')).toEqual([])
})
