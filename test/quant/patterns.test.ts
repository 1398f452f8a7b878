import { describe, expect, test } from 'vitest'
import { closestNames, nameMatcher } from '../../src/quant/patterns.ts'

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
