import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { closestNames, nameMatcher } from '../../../src/quant/plan/patterns.ts'
import { processorMs } from '../../helpers/processor-time.ts'

const NAMES = [0, 1, 10].flatMap(layer => [
  `layers.${layer}.self_attn.q_proj`,
  `layers.${layer}.self_attn.o_proj`,
  `layers.${layer}.mlp.down_proj`,
])
const of = (layer: number) => NAMES.filter(name => name.startsWith(`layers.${layer}.`))
const ending = (end: string) => NAMES.filter(name => name.endsWith(end))

describe('a pattern', () => {
  test.each<[string, string[]]>([
    ['layers.1.mlp.down_proj', ['layers.1.mlp.down_proj']],
    ['down_proj', ending('down_proj')],
    ['mlp', ending('down_proj')],
    ['mlp.down_proj', ending('down_proj')],
    ['layers.1', of(1)],
    ['layers.1.*', of(1)],
    ['layers.1*', [...of(1), ...of(10)]],
    ['layers.?', [...of(0), ...of(1)]],
    ['layers.??', of(10)],
    ['1', of(1)],
    ['*.o_proj', ending('o_proj')],
    ['*_proj', NAMES],
    ['*', NAMES],
    ['**', NAMES],
    ['layers.*.self_attn', [...ending('q_proj'), ...ending('o_proj')]],
    ['1.*.o_proj', ['layers.1.self_attn.o_proj']],
    ['proj', []],
    ['Down_proj', []],
    ['down.proj', []],
    ['layers', NAMES],
    ['model.layers.1', []],
    ['', []],
  ])('"%s"', (pattern, expected) => {
    expect(NAMES.filter(nameMatcher(pattern)).sort()).toEqual([...expected].sort())
  })

  test.each(['a+b', 'a(b', 'a[0]', '^a$', 'a|b', 'a\\d', 'a{2}', '/a/b'])('%s stands for itself', name => {
    expect(nameMatcher(name)(`x.${name}.y`)).toBe(true)
    for (const other of ['aab', 'ab', 'a0', 'a', 'b', 'aa', 'a1']) expect(nameMatcher(name)(other)).toBe(false)
  })

  test('* and ? go over any character, line ends too', () => {
    expect(nameMatcher('a*z')('a\n.z')).toBe(true)
    expect(nameMatcher('a?z')('a\nz')).toBe(true)
    expect(nameMatcher('a?z')('az')).toBe(false)
  })
})

/** The meaning of a pattern as a regular expression, which takes exponential time for some. */
function reference(pattern: string): (name: string) => boolean {
  const glob = pattern.replace(/\*+|[\\^$.|?+()[\]{}]/g, special => {
    if (special.startsWith('*')) return '.*'
    return special === '?' ? '.' : `\\${special}`
  })
  const expression = new RegExp(`(?:^|\\.)${glob}(?:\\.|$)`, 's')
  return name => expression.test(name)
}

test('short patterns mean what the regular expression means', () => {
  const text = (characters: string[], maxLength: number) =>
    fc.array(fc.constantFrom(...characters), { maxLength }).map(parts => parts.join(''))
  let matches = 0
  fc.assert(
    fc.property(
      text(['a', 'b', '.', '*', '?', '^', '\n', '\u{1f600}'], 7),
      text(['a', 'b', '.', '^', '\n', '\u{1f600}'], 9),
      (pattern, name) => {
        const expected = reference(pattern)(name)
        if (expected) matches++
        expect(nameMatcher(pattern)(name)).toBe(expected)
      },
    ),
    { numRuns: 20_000, seed: 1 },
  )
  expect(matches).toBeGreaterThan(2000)
})

describe('time stays in bounds', () => {
  const long = `${'a'.repeat(7700)}b`
  const within = (ms: number, work: () => void) => expect(processorMs(work)).toBeLessThan(ms)

  test.each([
    '*a*a*a*c',
    `${'*a'.repeat(500)}*c`,
    `${'*?a'.repeat(300)}*c`,
    `${'a?'.repeat(2000)}c`,
    `${'a'.repeat(4000)}c`,
  ])('of %.12s... on a long name', pattern => within(2000, () => expect(nameMatcher(pattern)(long)).toBe(false)))

  test('of a search among long names, which finds short ones all the same', () => {
    const names = [...Array.from({ length: 1000 }, (_, i) => `${'a.'.repeat(4000)}${i}`), ...NAMES]
    within(4000, () => {
      expect(closestNames('down_prj', names, 1)).toEqual(['layers.0.mlp.down_proj'])
      expect(closestNames(`${'.'.repeat(1e5)}x.${'a.'.repeat(500)}b`, names, 3).length).toBeLessThanOrEqual(3)
    })
  })
})

test.each([
  ['down_prj', 'layers.0.mlp.down_proj'],
  ['*.o_prj', 'layers.0.self_attn.o_proj'],
  ['layers.10.mlp.downproj', 'layers.10.mlp.down_proj'],
  ['Q_PROJ', 'layers.0.self_attn.q_proj'],
  ['layers.11.mlp', 'layers.1.mlp.down_proj'],
])('%s is closest to %s', (pattern, name) => {
  expect(closestNames(pattern, NAMES, 3)[0]).toBe(name)
  expect(closestNames(pattern, NAMES, 3).length).toBe(3)
  expect(closestNames(pattern, [], 3)).toEqual([])
})
