/** @file Every target fills in what its row says, and nothing that was said. */

import { describe, expect, test } from 'vitest'
import { QuantError } from '../../../src/errors.ts'
import type { QuantizeOptions } from '../../../src/quant/terms/options.ts'
import { resolveOptions } from '../../../src/quant/terms/resolve-options.ts'
import { schemeName } from '../../../src/quant/terms/scheme.ts'
import { TARGET_NAMES, TARGETS, type TargetName } from '../../../src/quant/terms/targets.ts'

/** "w4a16g32 level 4 integer, lm_head 4, embedding float" */
function resolved(given: Omit<QuantizeOptions, 'model'>): string {
  const { scheme, accuracyLevel, format, lmHead, embedding } = resolveOptions({ model: 'm.onnx', ...given })
  const outer = `lm_head ${lmHead ?? 'float'}, embedding ${embedding ?? 'float'}`
  return `${schemeName(scheme)} level ${accuracyLevel} ${format}, ${outer}`
}

const FLOAT = 'lm_head float, embedding float'

test.each<[TargetName, string]>([
  ['cpu', 'w4a16g32 level 4 integer, lm_head 4, embedding 4'],
  ['web', 'w8a8 level 0 integer, lm_head float, embedding 8'],
  ['webgpu', 'w4a16g32sym level 4 integer, lm_head 4, embedding 4'],
  ['cuda', 'w4a16g32sym level 0 integer, lm_head 4, embedding 4'],
  ['directml', 'w4a16g32 level 0 integer, lm_head 4, embedding 4'],
  ['qnn', `w4a16sym level 0 qdq, ${FLOAT}`],
  ['openvino-npu', `w4a16sym level 0 qdq, ${FLOAT}`],
  ['tensorrt-rtx', `w4a16g128sym level 0 qdq, ${FLOAT}`],
  ['portable', 'w8a16sym level 0 qdq, lm_head 8, embedding 8'],
])('%s without another word', (target, expected) => {
  expect(resolved({ target })).toBe(expected)
})

test('every target has a scheme, a source and a day', () => {
  expect(TARGET_NAMES).toHaveLength(9)
  for (const { scheme, source } of Object.values(TARGETS)) {
    expect(resolved({ scheme })).toMatch(/^w\da\d/)
    expect(source).toMatch(/2026-11-2[01]$/)
  }
})

describe('the bits of the scheme choose the group', () => {
  test.each<[QuantizeOptions['target'], string, string]>([
    ['cpu', 'w2a16', 'w2a16g64 level 4 integer, lm_head 4, embedding 4'],
    ['cpu', 'w3a16', 'w3a16g32 level 4 integer, lm_head 4, embedding 4'],
    ['cpu', 'w6a16', 'w6a16g128 level 4 integer, lm_head 8, embedding 8'],
    ['cpu', 'w8a16', 'w8a16g128 level 4 integer, lm_head 8, embedding 8'],
    ['cpu', 'w8a8', 'w8a8 level 4 integer, lm_head 8, embedding 8'],
    ['web', 'w4a16', 'w4a16g32 level 0 integer, lm_head float, embedding 8'],
    ['webgpu', 'w2a16', 'w2a16g64 level 4 integer, lm_head 4, embedding 4'],
    ['webgpu', 'w8a8', 'w8a8 level 4 portable, lm_head 8, embedding 8'],
    ['cuda', 'w4a4', 'w4a4 level 0 portable, lm_head 4, embedding 4'],
    ['portable', 'w4a16', 'w4a16g32sym level 0 qdq, lm_head 8, embedding 8'],
    ['portable', 'w8a8', 'w8a8 level 0 portable, lm_head 8, embedding 8'],
    [undefined, 'w2a16', 'w2a16g64 level 4 integer, lm_head 4, embedding 4'],
    [undefined, 'w8a8', 'w8a8 level 4 integer, lm_head 8, embedding 8'],
  ])('%s %s', (target, scheme, expected) => expect(resolved({ target, scheme })).toBe(expected))

  test('of activation bits alone, the weights are those of the target', () => {
    expect(resolved({ target: 'cpu', activationBits: 8 })).toMatch(/^w4a8 /)
    expect(resolved({ target: 'web', bits: 4 })).toMatch(/^w4a16g32 /)
  })
})

describe('what is said wins', () => {
  test.each<[Omit<QuantizeOptions, 'model'>, RegExp]>([
    [{ target: 'cpu', scheme: 'w4a16g128' }, /^w4a16g128 level 4 /],
    [{ target: 'cpu', group: 256 }, /^w4a16g256 /],
    [{ target: 'cpu', perChannel: true }, /^w4a16 /],
    [{ target: 'cpu', symmetric: true }, /^w4a16g32sym /],
    [{ target: 'webgpu', symmetric: false }, /^w4a16g32 /],
    [{ target: 'cpu', accuracyLevel: 0 }, / level 0 /],
    [{ target: 'cuda', accuracyLevel: 4 }, / level 4 /],
    [{ target: 'portable', scheme: 'w8a8', format: 'integer' }, / integer,/],
    [{ target: 'cpu', lmHead: 'float' }, /lm_head float, embedding 4$/],
    [{ target: 'cpu', lmHead: 8, embedding: 'float' }, /lm_head 8, embedding float$/],
    [{ target: 'web', embedding: 8 }, /lm_head float, embedding 8$/],
    [{ scheme: 'w4a16', lmHead: 'float' }, /lm_head float, embedding 4$/],
    [{ target: 'openvino-npu', group: 64, format: 'integer' }, /^w4a16g64sym level 0 integer/],
  ])('%o', (given, expected) => expect(resolved(given)).toMatch(expected))

  test('a scheme as an object is kept as it is', () => {
    const scheme = { weights: { bits: 4, group: 64, symmetric: false }, activations: undefined }
    expect(resolveOptions({ model: 'm', target: 'webgpu', scheme }).scheme).toEqual(scheme)
  })

  test('bits that only the target asks for are a wish, those of the user are not', () => {
    const wishes = (given: Omit<QuantizeOptions, 'model'>) => resolveOptions({ model: 'm', ...given }).wherePossible
    expect(wishes({ target: 'cpu' })).toEqual(['lmHead', 'embedding'])
    expect(wishes({ target: 'cpu', lmHead: 4 })).toEqual(['embedding'])
    expect(wishes({ target: 'cpu', lmHead: 'float', embedding: 8 })).toEqual([])
    expect(wishes({ target: 'web' })).toEqual(['embedding'])
    expect(wishes({ target: 'qnn' })).toEqual([])
    expect(wishes({ scheme: 'w4a16', lmHead: 8 })).toEqual(['embedding'])
  })
})

test.each<[object, string]>([
  [
    { target: 'tpu' },
    '`target` is cpu, web, webgpu, cuda, directml, qnn, openvino-npu, tensorrt-rtx or portable, not "tpu"',
  ],
  [{}, 'how many bits shall the weights have?'],
  [{ activationBits: 8 }, 'how many bits shall the weights have?'],
  [{ target: 'cpu', lmHead: 'half' }, '`lmHead` takes 2, 4 or 8 bits, or float, not "half"'],
])('%o is refused', (given, message) => {
  expect(() => resolveOptions({ model: 'm', ...given })).toThrow(QuantError)
  expect(() => resolveOptions({ model: 'm', ...given })).toThrow(message)
})
