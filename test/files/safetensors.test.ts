/** @file Parameter files: the bytes of one, the way there and back, and every way in which one can be broken. */

import fc from 'fast-check'
import type fs from 'node:fs'
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test, vi } from 'vitest'
import { type ParameterFile, readParameterFile, writeParameterFile } from '../helpers/parameter-files.ts'
import { readSafetensors, writeSafetensors } from '../../src/files/safetensors.ts'
import { tempDir } from '../helpers/temp-dir.ts'
import { testFolder } from '../helpers/test-folder.ts'

// These files need not outlast the machine, and there are hundreds.
vi.mock('node:fs', async original => ({ ...(await original<typeof fs>()), fsyncSync: () => {} }))

const folder = tempDir()

const tensor = (shape: readonly number[], values: readonly number[]) => ({ shape, data: Float32Array.from(values) })

const SMALL: ParameterFile = {
  metadata: { format: 'omniquant' },
  tensors: new Map([
    ['b', tensor([2], [1, -2])],
    ['a', tensor([], [0.5])],
  ]),
}

// By hand from the format's description; 1, -2 and 0.5 are 3f800000, c0000000 and 3f000000.
const SMALL_JSON =
  '{"__metadata__":{"format":"omniquant"},' +
  '"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}'
const SMALL_DATA = Buffer.from('0000003f' + '0000803f' + '000000c0', 'hex')

/** Header length, header, data. */
function fileBytes(json: string | Uint8Array, data: Uint8Array, length = json.length): Buffer {
  const start = Buffer.alloc(8)
  start.writeBigUInt64LE(BigInt(length))
  return Buffer.concat([start, Buffer.from(json as string), data])
}

test('a small file has the bytes the format says', () => {
  const path = join(folder, 'small.safetensors')
  writeParameterFile(path, SMALL)
  expect(SMALL_JSON.length % 8).toBe(1)
  const bytes = readFileSync(path)
  expect(bytes.toString('latin1')).toBe(fileBytes(SMALL_JSON + ' '.repeat(7), SMALL_DATA).toString('latin1'))
})

test('a file without metadata, and one without tensors', () => {
  const path = join(folder, 'bare.safetensors')
  writeParameterFile(path, { metadata: {}, tensors: new Map([['x', tensor([1], [1])]]) })
  expect(readFileSync(path, 'latin1').slice(8)).toMatch(/^\{"x":\{/)
  writeParameterFile(path, { metadata: {}, tensors: new Map() })
  expect(readFileSync(path)).toEqual(fileBytes('{}      ', Buffer.alloc(0)))
  expect(readParameterFile(path)).toEqual({ metadata: {}, tensors: new Map() })
})

const shapes = fc.array(fc.nat({ max: 4 }), { maxLength: 3 })
const tensors = shapes.chain(shape => {
  const length = shape.reduce((a, b) => a * b, 1)
  return fc.record({ shape: fc.constant(shape), data: fc.float32Array({ minLength: length, maxLength: length }) })
})
// Names an object would move to its front or mistake for something of its own are names as well.
const names = fc
  .oneof(fc.string({ unit: 'grapheme' }), fc.constantFrom('__proto__', 'constructor', '10', '2', ''))
  .filter(name => name !== '__metadata__')

/** Bits instead of values: NaN and -0 must survive too. */
const bits = ({ metadata, tensors }: ParameterFile) => ({
  metadata: Object.entries(metadata).sort(),
  tensors: [...tensors]
    .map(([name, { shape, data }]) => [name, shape, [...new Uint32Array(data.slice().buffer)]] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1)),
})

test('what was written is read, and the order it was given in leaves no trace', () => {
  const path = join(folder, 'round.safetensors')
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.tuple(names, fc.string()), { selector: ([name]) => name, maxLength: 4 }),
      fc.uniqueArray(fc.tuple(names, tensors), { selector: ([name]) => name, maxLength: 6 }),
      (metadata, entries) => {
        const file = { metadata: Object.fromEntries(metadata), tensors: new Map(entries) }
        writeParameterFile(path, file)
        const first = readFileSync(path)
        const read = readParameterFile(path)
        expect(bits(read)).toEqual(bits(file))
        writeParameterFile(path, {
          metadata: Object.fromEntries([...metadata].reverse()),
          tensors: new Map([...entries].reverse()),
        })
        expect(readFileSync(path).equals(first)).toBe(true)
        writeParameterFile(path, read)
        expect(readFileSync(path).equals(first)).toBe(true)
      },
    ),
    { numRuns: 150 },
  )
})

test('tensors are written from where they lie in a larger array, and read into memory of their own', () => {
  const path = join(folder, 'views.safetensors')
  const all = Float32Array.of(0, 1, 2, 3, 4)
  writeParameterFile(path, {
    metadata: {},
    tensors: new Map([
      ['x', { shape: [2], data: all.subarray(1, 3) }],
      ['y', { shape: [2], data: all.subarray(3) }],
    ]),
  })
  const { tensors } = readParameterFile(path)
  expect([...tensors.get('x')!.data]).toEqual([1, 2])
  tensors.get('x')!.data.fill(9)
  expect([...tensors.get('y')!.data]).toEqual([3, 4])
})

test('float16, bfloat16 and float64 are read as float32', () => {
  const path = join(folder, 'types.safetensors')
  const json =
    '{"h":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},"b":{"dtype":"BF16","shape":[1],"data_offsets":[2,4]},' +
    '"d":{"dtype":"F64","shape":[1],"data_offsets":[4,12]}}'
  const data = Buffer.alloc(12)
  data.writeUInt16LE(0x3e00, 0) // 1.5
  data.writeUInt16LE(0xc020, 2) // -2.5
  data.writeDoubleLE(0.1, 4)
  writeFileSync(path, fileBytes(json, data))
  const { tensors } = readParameterFile(path)
  expect([...tensors].map(([name, { data }]) => [name, [...data]])).toEqual([
    ['h', [1.5]],
    ['b', [-2.5]],
    ['d', [Math.fround(0.1)]],
  ])
})

describe('refused', () => {
  const x = (description: string) => fileBytes(`{"x":${description}}`, Buffer.alloc(8))
  const two = (a: string, b: string, size = 8) =>
    fileBytes(
      `{"a":{"dtype":"F32","shape":[1],"data_offsets":${a}},"b":{"dtype":"F32","shape":[1],"data_offsets":${b}}}`,
      Buffer.alloc(size),
    )
  const small = fileBytes(SMALL_JSON, SMALL_DATA)
  const dataStart = 8 + SMALL_JSON.length

  test.each<[string, Uint8Array, RegExp]>([
    ['an empty file', Buffer.alloc(0), /has 0 bytes/],
    ['a file that ends in the header length', small.subarray(0, 7), /has 7 bytes/],
    ['a file that ends after the header length', small.subarray(0, 8), /has 8 bytes/],
    ['a file of another kind', Buffer.from('PK\x03\x04 and so on and on'), /is not a \.safetensors file/],
    ['a text file', Buffer.from('a text of more than eight bytes'), /is not a \.safetensors file/],
    ['a header of absurd length', fileBytes('{}', Buffer.alloc(8), 2 ** 62), /header has 4611686018427387904 bytes/],
    ['a header of more than 100 MB', fileBytes('{}', Buffer.alloc(8), 100_000_001), /header has 100000001 bytes/],
    ['a header longer than the file', fileBytes('{}', Buffer.alloc(8), 19), /ends at byte 18.*end at byte 27/],
    ['a file cut inside its header', small.subarray(0, 50), new RegExp(`ends at byte 50.*end at byte ${dataStart}`)],
    ['a header of no length', fileBytes('{}', Buffer.alloc(0), 0), /not JSON/],
    ['a header that is not JSON', fileBytes('{"x":}', Buffer.alloc(0)), /not JSON/],
    ['a header that is not UTF-8', fileBytes(Buffer.from('{"\xff":1}', 'latin1'), Buffer.alloc(0)), /not JSON/],
    ['metadata that is no object', fileBytes('{"__metadata__":[]}', Buffer.alloc(0)), /__metadata__ is not/],
    [
      'metadata that is no text',
      fileBytes('{"__metadata__":{"n":1}}', Buffer.alloc(0)),
      /"n" in __metadata__ is not a/,
    ],
    ['a tensor that is no object', x('null'), /tensor "x" is not described/],
    ['a tensor without a type', x('{"shape":[2],"data_offsets":[0,8]}'), /tensor "x" is of type undefined/],
    ['integers', x('{"dtype":"I32","shape":[2],"data_offsets":[0,8]}'), /tensor "x" is of type "I32".*F32, F16/],
    ['a tensor without a shape', x('{"dtype":"F32","data_offsets":[0,8]}'), /tensor "x" has shape undefined/],
    ['a negative size', x('{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}'), /has shape \[-2\]/],
    ['a broken size', x('{"dtype":"F32","shape":[0.5,4],"data_offsets":[0,8]}'), /has shape \[0.5,4\]/],
    ['a tensor without offsets', x('{"dtype":"F32","shape":[2]}'), /data_offsets undefined/],
    ['three offsets', x('{"dtype":"F32","shape":[2],"data_offsets":[0,8,16]}'), /data_offsets \[0,8,16\]/],
    ['offsets the wrong way round', x('{"dtype":"F32","shape":[2],"data_offsets":[8,0]}'), /data_offsets \[8,0\]/],
    ['a negative offset', x('{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}'), /data_offsets \[-8,0\]/],
    [
      'a shape too large for the data',
      x('{"dtype":"F32","shape":[3],"data_offsets":[0,8]}'),
      /\[3\] needs 12 bytes, but has 8/,
    ],
    [
      'a shape too small for the data',
      x('{"dtype":"F16","shape":[3],"data_offsets":[0,8]}'),
      /\[3\] needs 6 bytes, but has 8/,
    ],
    [
      'a shape whose size overflows',
      x(
        `{"dtype":"F32","shape":[${Array(40)
          .fill(2 ** 40)
          .join()},0],"data_offsets":[0,8]}`,
      ),
      /bytes, but has 8/,
    ],
    [
      'a file cut inside its data',
      small.subarray(0, -3),
      new RegExp(`ends at byte ${small.length - 3}, but tensor "b" should end at byte ${small.length}`),
    ],
    ['offsets beyond the data', two('[0,4]', '[400,404]'), /tensor "b" should end at byte/],
    ['overlapping tensors', two('[0,4]', '[2,6]'), /tensors "a" and "b" overlap/],
    ['tensors on the same bytes', two('[0,4]', '[0,4]'), /tensors "a" and "b" overlap/],
    ['a hole before the first tensor', two('[4,8]', '[8,12]', 12), /has 4 bytes of no tensor before "a"/],
    ['a hole between tensors', two('[0,4]', '[8,12]', 12), /has 4 bytes of no tensor before "b"/],
    ['bytes after the last tensor', two('[0,4]', '[4,8]', 11), /has 3 bytes of no tensor at its end/],
  ])('%s', (_, bytes, message) => {
    const path = join(folder, 'broken.safetensors')
    writeFileSync(path, bytes)
    expect(() => readParameterFile(path)).toThrow(
      expect.objectContaining({
        code: 'E_PARAMETERS',
        message: expect.stringMatching(message),
        hint: expect.any(String),
      }),
    )
    expect(() => readParameterFile(path)).toThrow(path)
  })

  test('whatever is left when a file is cut', () => {
    const path = join(folder, 'cut.safetensors')
    for (let length = 0; length < small.length; length++) {
      writeFileSync(path, small.subarray(0, length))
      expect(() => readParameterFile(path)).toThrow(expect.objectContaining({ code: 'E_PARAMETERS' }))
    }
  })

  test('a file that is not there', () => {
    const path = join(folder, 'nowhere.safetensors')
    expect(() => readParameterFile(path)).toThrow(
      expect.objectContaining({ code: 'E_FILE_NOT_FOUND', message: expect.stringContaining(path) }),
    )
  })

  test('a folder', () => {
    expect(() => readParameterFile(folder)).toThrow(expect.objectContaining({ code: 'E_PARAMETERS' }))
  })
})

test('damage to any byte of the header is either refused as such or still gives a file', () => {
  const path = join(folder, 'damaged.safetensors')
  const bytes = fileBytes(SMALL_JSON, SMALL_DATA)
  fc.assert(
    fc.property(fc.nat({ max: SMALL_JSON.length + 7 }), fc.nat({ max: 255 }), (at, value) => {
      const damaged = Buffer.from(bytes)
      damaged[at] = value
      writeFileSync(path, damaged)
      try {
        const { tensors } = readParameterFile(path)
        for (const { shape, data } of tensors.values()) expect(data.length).toBe(shape.reduce((a, b) => a * b, 1))
      } catch (error) {
        expect(error).toMatchObject({ code: 'E_PARAMETERS' })
      }
    }),
    { numRuns: 300 },
  )
})

describe('writing', () => {
  test('makes folders, replaces a file, and leaves nothing else behind', () => {
    const root = testFolder()
    const path = join(root, 'deep', 'er', 'p.safetensors')
    writeParameterFile(path, { metadata: {}, tensors: new Map() })
    writeParameterFile(path, SMALL)
    expect(bits(readParameterFile(path))).toEqual(bits(SMALL))
    expect(readdirSync(join(root, 'deep', 'er'))).toEqual(['p.safetensors'])
  })

  test('to where a folder is fails, and leaves nothing behind', () => {
    const root = testFolder()
    const path = join(root, 'p')
    mkdirSync(join(path, 'inside'), { recursive: true })
    expect(() => writeParameterFile(path, SMALL)).toThrow(
      expect.objectContaining({ code: 'E_OUTPUT', message: expect.stringContaining(path), hint: expect.any(String) }),
    )
    expect(readdirSync(root)).toEqual(['p'])
    expect(existsSync(join(path, 'inside'))).toBe(true)
  })

  test('to a link or a device is refused, and touches neither', () => {
    const root = testFolder()
    const [victim, link] = [join(root, 'victim'), join(root, 'link')]
    writeFileSync(victim, 'secret')
    symlinkSync(victim, link)
    const refusal = expect.objectContaining({ code: 'E_OUTPUT', hint: expect.any(String) as string })
    for (const path of [link, '/dev/null']) expect(() => writeParameterFile(path, SMALL)).toThrow(refusal)
    expect(readFileSync(victim, 'utf8')).toBe('secret')
    expect(readdirSync(root).sort()).toEqual(['link', 'victim'])
  })

  test('below a file fails', () => {
    const root = testFolder()
    writeFileSync(join(root, 'file'), '')
    expect(() => writeParameterFile(join(root, 'file', 'p'), SMALL)).toThrow(
      expect.objectContaining({ code: 'E_OUTPUT' }),
    )
  })

  test.each([
    ['a shape that does not fit', 'x', tensor([3], [1, 2])],
    ['the name of the metadata', '__metadata__', tensor([1], [1])],
  ])('%s is a mistake of ours and touches no file', (_, name, value) => {
    const path = join(testFolder(), 'p.safetensors')
    writeParameterFile(path, SMALL)
    expect(() => writeParameterFile(path, { metadata: {}, tensors: new Map([[name, value]]) })).toThrow(
      expect.objectContaining({ code: 'E_INTERNAL' }),
    )
    expect(bits(readParameterFile(path))).toEqual(bits(SMALL))
  })
})

test('bytes of every type are given back as they were', () => {
  const path = join(testFolder(), 'types.safetensors')
  const tensors = new Map(
    (['F32', 'F16', 'BF16', 'F64'] as const).map((dtype, i) => {
      const bytes = Uint8Array.from({ length: 3 * [4, 2, 2, 8][i]! }, (_, j) => 16 * i + j)
      return [dtype, { dtype, shape: [3], bytes }] as const
    }),
  )
  writeSafetensors(path, { metadata: {}, tensors })
  const read = readSafetensors(path)
  expect(new Map([...read.tensors].sort())).toEqual(new Map([...tensors].sort()))
})
