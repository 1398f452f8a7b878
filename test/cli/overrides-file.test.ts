import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { readOverrides } from '../../src/cli/overrides-file.ts'
import { testFolder } from '../helpers/test-folder.ts'

function written(text: string): string {
  const path = join(testFolder(), 'o.json')
  writeFileSync(path, text)
  return path
}

test('patterns and schemes, in the order of the file', () => {
  expect(readOverrides(written('{"down_proj": "w8g64", "layers.0.*": "W3sym", "x": "w2"}'))).toEqual([
    { pattern: 'down_proj', bits: 8, group: 64 },
    { pattern: 'layers.0.*', bits: 3, symmetric: true },
    { pattern: 'x', bits: 2 },
  ])
  expect(readOverrides(written('{}'))).toEqual([])
})

test.each([
  ['{"a": "w8"', 'E_USAGE', /o\.json is not JSON: /],
  ['["a"]', 'E_USAGE', /o\.json does not hold an object/],
  ['null', 'E_USAGE', /o\.json does not hold an object/],
  ['{"a": 8}', 'E_USAGE', /o\.json: what "a" is set to is not a text/],
  ['{"a": "w9"}', 'E_SCHEME', /o\.json: "a": 9-bit weights cannot be made/],
  ['{"b": "w4g48"}', 'E_SCHEME', /o\.json: "b": groups of 48 weights cannot be stored/],
])('%s is refused', (text, code, message) => {
  const path = written(text)
  expect(() => readOverrides(path)).toThrow(
    expect.objectContaining({ code, message: expect.stringMatching(message) as string }),
  )
})

test('patterns have at most 1024 characters', () => {
  const longest = 'a'.repeat(1024)
  expect(readOverrides(written(JSON.stringify({ [longest]: 'w8' })))).toEqual([{ pattern: longest, bits: 8 }])
  const path = written(JSON.stringify({ a: 'w8', [`${longest}a`]: 'w8' }))
  const message = `${path}: the pattern "${'a'.repeat(40)}..." has 1025 characters, more than 1024`
  expect(() => readOverrides(path)).toThrow(expect.objectContaining({ code: 'E_USAGE', message }))
})

test('a file that is not there', () => {
  expect(() => readOverrides('/nowhere/o.json')).toThrow(expect.objectContaining({ code: 'E_FILE_NOT_FOUND' }))
})
