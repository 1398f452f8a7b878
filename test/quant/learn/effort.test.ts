/** @file Less is learned where more would take too long, and never nothing. */

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { blockMs, type Effort, stepsForWork, withinSteps, withinTime } from '../../../src/quant/learn/effort.ts'

const DEFAULT: Effort = { samples: 128, epochs: 4, learningRate: 5e-2, schedule: 'cosine' }
const effort = fc.record({
  samples: fc.integer({ min: 1, max: 512 }),
  epochs: fc.integer({ min: 1, max: 40 }),
  learningRate: fc.constant(1e-2),
  schedule: fc.constantFrom('cosine' as const, 'constant' as const),
})

describe('within so many steps', () => {
  test('what fits stays as it is', () => {
    expect(withinSteps(DEFAULT, 512)).toBe(DEFAULT)
    expect(withinSteps(DEFAULT, Infinity)).toBe(DEFAULT)
  })

  test.each([
    [256, 64, 4, 0.0707],
    [128, 32, 4, 0.1],
    [64, 16, 4, 0.141],
    [40, 16, 2, 0.2],
    [16, 16, 1, 0.283],
    [8, 8, 1, 0.4],
    [1, 8, 1, 0.4],
  ])('%i: %i samples, %i epochs, rate %d', (steps, samples, epochs, learningRate) => {
    expect(withinSteps(DEFAULT, steps)).toEqual({ ...DEFAULT, samples, epochs, learningRate })
  })

  test('many epochs go before samples do', () => {
    expect(withinSteps({ ...DEFAULT, epochs: 20 }, 1024)).toMatchObject({ samples: 128, epochs: 8 })
    expect(withinSteps({ ...DEFAULT, epochs: 20 }, 256)).toMatchObject({ samples: 64, epochs: 4 })
  })

  test('never more than asked for or than the steps, but for eight samples once', () => {
    fc.assert(
      fc.property(effort, fc.integer({ min: 0, max: 4000 }), (asked, steps) => {
        const { samples, epochs, learningRate, schedule } = withinSteps(asked, steps)
        expect(samples).toBeLessThanOrEqual(asked.samples)
        expect(epochs).toBeLessThanOrEqual(asked.epochs)
        expect(samples * epochs).toBeLessThanOrEqual(Math.max(steps, Math.min(asked.samples, 8)))
        expect([samples >= 1, epochs >= 1]).toEqual([true, true])
        if (schedule === 'constant') expect(learningRate).toBe(asked.learningRate)
        else expect(learningRate).toBeGreaterThanOrEqual(asked.learningRate)
      }),
    )
  })
})

test('work: small models get all steps, the largest as many as fast has', () => {
  expect(stepsForWork(3e14, 4e6, 256)).toBeGreaterThan(512)
  expect(stepsForWork(3e14, 4e8, 512)).toBe(244)
  expect(stepsForWork(3e14, 7e9, 512)).toBe(128)
  expect(stepsForWork(Infinity, 7e9, 512)).toBe(Infinity)
})

describe('within a time', () => {
  const TIMES = { fixed: 2000, sample: 200, step: 200 }

  test('the whole is planned to end before it, and a little more would not', () => {
    fc.assert(
      fc.property(
        effort,
        fc.record({
          fixed: fc.integer({ min: 0, max: 10_000 }),
          sample: fc.integer({ min: 1, max: 2000 }),
          step: fc.integer({ min: 1, max: 5000 }),
        }),
        fc.integer({ min: 1, max: 80 }),
        fc.integer({ min: 1000, max: 40_000_000 }),
        (asked, times, blocks, budget) => {
          let fitted: Effort
          try {
            fitted = withinTime(asked, times, blocks, budget)
          } catch (error) {
            expect(error).toMatchObject({ code: 'E_LIMIT' })
            expect(blocks * blockMs(times, Math.min(asked.samples, 8), 1)).toBeGreaterThan(budget * 0.8)
            return
          }
          expect(blocks * blockMs(times, fitted.samples, fitted.epochs)).toBeLessThanOrEqual(budget * 0.85)
        },
      ),
    )
  })

  test('a budget that is long enough changes nothing, half of it about halves the steps', () => {
    expect(withinTime(DEFAULT, TIMES, 16, 1e9)).toBe(DEFAULT)
    const whole = 16 * blockMs(TIMES, 128, 4)
    const { samples, epochs } = withinTime(DEFAULT, TIMES, 16, whole / 2 / 0.85)
    expect([samples, epochs]).toEqual([63, 4])
  })

  test('what cannot be is refused, with what it would take', () => {
    expect(() => withinTime(DEFAULT, TIMES, 16, 60_000)).toThrow(
      expect.objectContaining({
        code: 'E_LIMIT',
        message: 'a time budget of 1 min is too short: learning from 8 samples takes about 2 min here',
      }),
    )
  })
})
