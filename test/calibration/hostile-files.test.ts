/** @file Files beside a model, and files of tokens, that would never end or fill the memory: refused before they are read. */

import { execFileSync } from 'node:child_process'
import { closeSync, ftruncateSync, mkdirSync, openSync, symlinkSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { loadTokens } from '../../src/calibration/dataset.ts'
import { readModelConfig } from '../../src/decoder/model-folder.ts'
import { describeIo, type IoSource } from '../../src/decoder/model-io.ts'
import { readNpy } from '../../src/files/npy.ts'
import { loadTokenizer } from '../../src/calibration/tokenizer.ts'
import { readOverrides } from '../../src/cli/overrides-file.ts'
import { readRange } from '../../src/files/file-range.ts'
import { readParameterFile } from '../helpers/parameter-files.ts'
import { testFolder } from '../helpers/test-folder.ts'

const unused = () => {
  throw new Error('no tokenizer is needed')
}

/** Readers, the file each reads in a folder, and the code it refuses with. */
const READERS: [string, (folder: string) => unknown, string][] = [
  ['config.json', folder => readModelConfig([folder]), 'E_INPUTS'],
  ['genai_config.json', folder => readModelConfig([folder]), 'E_INPUTS'],
  ['tokens.txt', folder => loadTokens(join(folder, 'tokens.txt'), unused), 'E_FILE_NOT_FOUND'],
  ['tokens.jsonl', folder => loadTokens(join(folder, 'tokens.jsonl'), unused), 'E_FILE_NOT_FOUND'],
  ['tokens.npy', folder => readNpy(join(folder, 'tokens.npy')), 'E_CALIBRATION'],
  ['learned.safetensors', folder => readParameterFile(join(folder, 'learned.safetensors')), 'E_PARAMETERS'],
  ['overrides.json', folder => readOverrides(join(folder, 'overrides.json')), 'E_FILE_NOT_FOUND'],
]

describe.each(READERS)('%s', (name, read, code) => {
  test.each(['pipe', 'device', 'folder'])('that is a %s', kind => {
    const folder = testFolder()
    const path = join(folder, name)
    if (kind === 'pipe') execFileSync('mkfifo', [path])
    else if (kind === 'device') symlinkSync('/dev/zero', path)
    else mkdirSync(path)
    const refused = { code, message: expect.stringMatching(/is not a file/), name: 'QuantError' }
    expect(() => read(folder)).toThrow(expect.objectContaining(refused))
  })
})

/** A file of this many bytes that takes no room on disk. */
function hollow(path: string, bytes: number, head: Uint8Array = new Uint8Array(0)): string {
  const descriptor = openSync(path, 'w')
  writeSync(descriptor, head)
  ftruncateSync(descriptor, bytes)
  closeSync(descriptor)
  return path
}

describe('too large', () => {
  test.each([
    ['tokens.jsonl', 2 ** 40, 'it has 1099511.6 MB, more than 67.1 MB'],
    ['tokens.txt', 2 ** 30, 'it has 1073.7 MB, more than 67.1 MB'],
  ])('%s', (name, bytes, message) => {
    const path = hollow(join(testFolder(), name), bytes)
    expect(() => loadTokens(path, unused)).toThrow(message)
  })

  test('tokenizer.json', () => {
    const folder = testFolder()
    hollow(join(folder, 'tokenizer.json'), 2 ** 36)
    const refused = { code: 'E_TOKENIZER', message: expect.stringMatching(/68719.5 MB, more than 67.1 MB/) }
    expect(() => loadTokenizer(folder)).toThrow(expect.objectContaining(refused))
  })

  test('.npy, though header and length agree', () => {
    const header = `{'descr': '<i8', 'fortran_order': False, 'shape': (17179869184,), }`.padEnd(117) + '\n'
    const head = Buffer.concat([Buffer.from('\x93NUMPY\x01\x00', 'latin1'), Buffer.from([118, 0]), Buffer.from(header)])
    const path = hollow(join(testFolder(), 'tokens.npy'), 128 + 2 ** 37, head)
    expect(() => readNpy(path)).toThrow('holds [17179869184], more than 134217728 numbers')
  })

  test('a header of .safetensors', () => {
    const head = Buffer.alloc(9)
    head.writeBigUInt64LE(2n ** 26n)
    head[8] = '{'.charCodeAt(0)
    const path = hollow(join(testFolder(), 'learned.safetensors'), 2 ** 27, head)
    expect(() => readParameterFile(path)).toThrow('says that its header has 67108864 bytes; more than 33554432')
  })

  test('a weight, though its file is long enough', () => {
    const file = hollow(join(testFolder(), 'weights.bin'), 2 ** 43)
    expect(() => readRange({ file, offset: 0, length: 2 ** 43 })).toThrow(
      'has 8796.1 GB, more than can be held in memory',
    )
  })

  test('an archive of arrays is not opened', () => {
    const path = join(testFolder(), 'tokens.npz')
    writeFileSync(path, 'PK\x03\x04')
    expect(() => loadTokens(path, unused)).toThrow('files ending in ".npz" are not known as text or tokens')
  })
})

describe('JSON', () => {
  test.each([
    ['nested a million deep', '['.repeat(1e6) + ']'.repeat(1e6)],
    ['objects in objects', '{"model":'.repeat(1e5) + '1' + '}'.repeat(1e5)],
    ['a number', '7'],
    ['null', 'null'],
    ['__proto__', '{"__proto__": {"vocab_size": 7}, "constructor": {"vocab_size": 7}}'],
    ['sizes of other types', '{"vocab_size": "7", "max_position_embeddings": {"a": 1}, "head_size": [[1]]}'],
    ['sizes that are none', '{"vocab_size": -7, "max_position_embeddings": 0, "n_positions": 1e300}'],
  ])('says nothing of a model: %s', (_, text) => {
    const folder = testFolder()
    for (const name of ['config.json', 'genai_config.json', 'generation_config.json'])
      writeFileSync(join(folder, name), text)
    const { names, ...rest } = readModelConfig([folder])
    expect([names.size, ...Object.values(rest)]).toEqual([0, ...Object.keys(rest).map(() => undefined)])
  })

  test.each([
    ['nested deep', '['.repeat(1e5) + ']'.repeat(1e5)],
    [
      'vocabularies with ids beyond memory',
      '{"model": {"type": "BPE", "vocab": {"a": 9007199254740993}, "merges": []}}',
    ],
    ['ids that are not numbers', '{"model": {"type": "BPE", "vocab": {"a": {"b": 1}}, "merges": []}}'],
    ['negative ids', '{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}'],
    ['merges of nothing', '{"model": {"type": "BPE", "vocab": {"a": 1}, "merges": [null, 7, ["a"]]}}'],
    [
      'a pattern that is none',
      '{"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a"}}, "model": {"type": "BPE", "vocab": {"a": 1}}}',
    ],
    ['null', 'null'],
  ])('is no tokenizer: %s', (_, text) => {
    const folder = testFolder()
    writeFileSync(join(folder, 'tokenizer.json'), text)
    expect(() => loadTokenizer(folder).encode('aab')).toThrow(expect.objectContaining({ code: 'E_TOKENIZER' }))
  })

  test('nested deeper than the stack, where a number should be', () => {
    const deep = '['.repeat(1e5) + ']'.repeat(1e5)
    const folder = testFolder()
    const lines = join(folder, 'tokens.jsonl')
    writeFileSync(lines, `[1, 2, ${deep}]`)
    expect(() => loadTokens(lines, unused)).toThrow('line 1 has something nested too deep to show among its token ids')
    const header = Buffer.from(`{"a": {"dtype": "F32", "shape": ${deep}, "data_offsets": [0, 4]}}`)
    const length = Buffer.alloc(8)
    length.writeBigUInt64LE(BigInt(header.length))
    const path = join(folder, 'learned.safetensors')
    writeFileSync(path, Buffer.concat([length, header, new Uint8Array(4)]))
    expect(() => readParameterFile(path)).toThrow(
      '"a" has shape something nested too deep to show, not a list of sizes',
    )
  })

  test('of parameters and overrides with names of JavaScript', () => {
    const folder = testFolder()
    const header = Buffer.from('{"__proto__": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}')
    const length = Buffer.alloc(8)
    length.writeBigUInt64LE(BigInt(header.length))
    const path = join(folder, 'learned.safetensors')
    writeFileSync(path, Buffer.concat([length, header, new Uint8Array(4)]))
    expect([...readParameterFile(path).tensors.keys()]).toEqual(['__proto__'])
    const overrides = join(folder, 'overrides.json')
    writeFileSync(overrides, '{"__proto__": "w8"}')
    expect(readOverrides(overrides)).toMatchObject([{ pattern: '__proto__' }])
  })
})

describe('the KV cache', () => {
  const source = (heads: number, headDim: number): IoSource => ({
    inputs: [
      { name: 'input_ids', dtype: 'int64', shape: ['batch', 'sequence'] },
      { name: 'past_key_values.0.key', dtype: 'float32', shape: ['batch', heads, 'past_sliding_length', headDim] },
    ],
    outputs: [{ name: 'logits', dtype: 'float32', shape: ['batch', 'sequence', 32] }],
  })

  test.each([
    [2 ** 40, 64, 'would be [batch, 1099511627776, 8, 64]'],
    [8, 2 ** 50, 'would be [batch, 8, 8, 1125899906842624]'],
  ])('of %i heads, %i wide', (heads, headDim, message) => {
    const folder = testFolder()
    writeFileSync(join(folder, 'config.json'), '{"sliding_window": 8}')
    const refused = { code: 'E_TOO_LARGE', message: expect.stringContaining(message) }
    expect(() => describeIo(source(heads, headDim), folder)).toThrow(expect.objectContaining(refused))
  })

  test('of a sliding window that config.json makes absurd', () => {
    const folder = testFolder()
    writeFileSync(join(folder, 'config.json'), '{"sliding_window": 1e15}')
    expect(() => describeIo(source(8, 64), folder)).toThrow(
      '[batch, 8, 1000000000000000, 64], more than any decoder has',
    )
    writeFileSync(join(folder, 'config.json'), '{"sliding_window": 4096}')
    expect(describeIo(source(8, 128), folder).past[0]!.capacity).toBe(4096)
  })
})
