import { describe, expect, test } from 'vitest'
import { parseWeightOverride, type WeightScheme, weightOverrideName } from '../../../src/quant/terms/scheme.ts'
import { checkRules, rulesText, weightSchemeOf } from '../../../src/quant/plan/weight-rules.ts'

const SCHEME: WeightScheme = { bits: 4, group: 128, symmetric: false }
const override = (pattern: string, text: string) => ({ pattern, ...parseWeightOverride(text) })

describe('a weight is quantized', () => {
  const of = (name: string, rules: Parameters<typeof weightSchemeOf>[1], scheme = SCHEME) =>
    weightSchemeOf(scheme, rules)({ name })

  test('as the scheme says, without a rule that matches', () => {
    expect(of('layers.0.q', {})).toEqual(SCHEME)
    expect(of('layers.0.q', { ignore: ['k'], overrides: [override('k', 'w8')] })).toEqual(SCHEME)
  })

  test('as the last override that matches says, the rest as in the scheme', () => {
    const overrides = [override('q', 'w8g64'), override('layers.1', 'w3'), override('*.q', 'w6sym')]
    expect(of('layers.0.q', { overrides })).toEqual({ bits: 6, group: 128, symmetric: true })
    expect(of('layers.1.k', { overrides })).toEqual({ bits: 3, group: 128, symmetric: false })
    expect(of('layers.1.k', { overrides: overrides.slice(0, 1) })).toEqual(SCHEME)
    expect(of('q', { overrides: [override('q', 'w8g64')] })).toEqual({ bits: 8, group: 64, symmetric: false })
  })

  test('per channel and symmetric where the scheme is, unless a group is given', () => {
    const scheme = { bits: 8, group: undefined, symmetric: true }
    expect(of('q', { overrides: [override('q', 'w4')] }, scheme)).toEqual({ ...scheme, bits: 4 })
    expect(of('q', { overrides: [override('q', 'w4g32')] }, scheme)).toEqual({ ...scheme, bits: 4, group: 32 })
  })

  test('not at all when it is ignored, whatever overrides say', () => {
    expect(of('layers.0.q', { ignore: ['x', 'layers.0'], overrides: [override('q', 'w8')] })).toBeUndefined()
  })
})

describe('patterns that match nothing', () => {
  const names = ['layers.0.mlp.down_proj', 'layers.0.mlp.up_proj', 'layers.0.self_attn.q_proj']

  test('are all named, with what comes near', () => {
    const rules = { ignore: ['down_prj', 'up_proj'], overrides: [override('k_proj', 'w8')] }
    expect(() => checkRules(rules, names)).toThrow(
      expect.objectContaining({
        code: 'E_USAGE',
        message: 'no linear matches "down_prj" or "k_proj"',
        hint: expect.stringContaining('Closest: layers.0.mlp.down_proj, ') as string,
      }),
    )
  })

  test('are named up to ten, and the rest is counted', () => {
    const rules = { ignore: Array.from({ length: 13 }, (_, i) => `none${i}`) }
    const message = expect.stringMatching(
      /^no linear matches "none0" or .* or "none9" or any of 3 more patterns$/,
    ) as string
    expect(() => checkRules(rules, names)).toThrow(expect.objectContaining({ message }))
  })

  test('are found among ignored names too, and the others pass', () => {
    expect(() => checkRules({ ignore: ['*'], overrides: [override('mlp', 'w8')] }, names)).not.toThrow()
    expect(() => checkRules({}, names)).not.toThrow()
  })
})

test('the same rules give the same text', () => {
  expect(rulesText({})).toBe('')
  expect(rulesText({ ignore: ['a', 'b'], overrides: [override('c', 'w8g64sym'), override('d', 'w3')] })).toBe(
    'a:float b:float c:w8g64sym d:w3',
  )
})

test.each(['w2', 'w8', 'w8g64', 'w3g16sym', 'w5sym'])('an override %s reads as it is written', text => {
  expect(weightOverrideName(parseWeightOverride(text))).toBe(text)
})

test.each([
  ['8', '"8" does not say how to quantize weights'],
  ['w8a8', '"w8a8" does not say how to quantize weights'],
  ['float', '"float" does not say how to quantize weights'],
  ['w16', '16-bit weights cannot be made'],
  ['w1', '1-bit weights cannot be made'],
  ['w4g48', 'groups of 48 weights cannot be stored'],
])('an override %s is refused', (text, message) => {
  expect(() => parseWeightOverride(text)).toThrow(expect.objectContaining({ code: 'E_SCHEME', message }))
})
