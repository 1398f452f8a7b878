import fc from 'fast-check'
import { expect, test } from 'vitest'
import { ScaleClasses } from '../../../../src/quant/plan/mappings/scale-classes.ts'

test('ties follow each other, with the inverse of an inverse being the scale itself', () => {
  const classes = new ScaleClasses()
  const first = classes.create(5)
  expect([first, classes.create(2), classes.size]).toEqual([0, 5, 7])
  classes.tie(0, 1, true, 'why')
  classes.tie(1, 2, true, 'why')
  classes.tie(3, 4, false, 'why')
  classes.tie(4, 2, true, 'why')
  expect(new Set([0, 1, 2, 3, 4].map(id => classes.root(id))).size).toBe(1)
  const signs = [0, 1, 2, 3, 4].map(id => classes.isInverse(id) === classes.isInverse(0))
  expect(signs).toEqual([true, false, true, false, false])
  expect(classes.refusal(0)).toBeUndefined()
  expect(classes.root(5)).not.toBe(classes.root(6))
})

test('a tie that contradicts the others is refused, for the whole class', () => {
  const classes = new ScaleClasses()
  classes.create(4)
  classes.tie(0, 1, false, 'equal')
  classes.tie(1, 2, true, 'inverse')
  classes.tie(0, 2, false, 'contradiction')
  expect([0, 1, 2, 3].map(id => classes.refusal(id))).toEqual([
    'contradiction',
    'contradiction',
    'contradiction',
    undefined,
  ])
})

test('a refusal holds for what is tied later, and the first reason stays', () => {
  const classes = new ScaleClasses()
  classes.create(3)
  classes.refuse(2, 'first')
  classes.tie(0, 1, false, '')
  classes.tie(1, 2, false, '')
  classes.refuse(0, 'second')
  expect([0, 1, 2].map(id => classes.refusal(id))).toEqual(['first', 'first', 'first'])
})

test('any ties that some assignment of signs satisfies are satisfied, and refuse nothing', () => {
  const pairs = fc.array(fc.tuple(fc.nat(9), fc.nat(9)), { maxLength: 30 })
  fc.assert(
    fc.property(fc.array(fc.boolean(), { minLength: 10, maxLength: 10 }), pairs, (signs, ties) => {
      const classes = new ScaleClasses()
      classes.create(10)
      for (const [a, b] of ties) classes.tie(a, b, signs[a] !== signs[b], 'contradiction')
      for (const [a, b] of ties) {
        expect(classes.root(a)).toBe(classes.root(b))
        expect(classes.isInverse(a) !== classes.isInverse(b)).toBe(signs[a] !== signs[b])
        expect(classes.refusal(a)).toBeUndefined()
      }
    }),
  )
})
