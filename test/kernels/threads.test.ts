import { expect, test } from 'vitest'
import { withinCores } from '../../src/kernels/threads.ts'

test.each([undefined, 1, 4])('%s threads on 4 cores stay as they are', threads => {
  const session = { ...(threads !== undefined && { threads }), device: 'cpu' as const }
  expect(withinCores(session, 4)).toEqual({ session, notes: [] })
})

test('more threads than cores are cut, with a note', () => {
  expect(withinCores({ threads: 5, device: 'cpu' }, 4)).toEqual({
    session: { threads: 4, device: 'cpu' },
    notes: ['5 threads were asked for, 4 are used: there are no more cores'],
  })
})
