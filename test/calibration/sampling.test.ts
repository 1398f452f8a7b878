/** @file The choice of a token: greedy, and drawn from what top-k and top-p leave. */

import { expect, test } from 'vitest'
import { Random } from '../../src/calibration/rng.ts'
import { chooseToken, type Sampling } from '../../src/calibration/sampling.ts'

/** Probabilities 0.1, 0.4, 0.2, 0.3. */
const LOGITS = Float32Array.from([0.1, 0.4, 0.2, 0.3], Math.log)

/** Shares of the tokens in many draws. */
function shares(sampling: Sampling): number[] {
  const random = new Random(7)
  const draws = 20_000
  const counts = [0, 0, 0, 0]
  for (let i = 0; i < draws; i++) counts[chooseToken(LOGITS, random, sampling)]!++
  return counts.map(count => count / draws)
}

const near = (measured: readonly number[], expected: readonly number[]) =>
  expected.forEach((share, i) =>
    share === 0 ? expect(measured[i]).toBe(0) : expect(Math.abs(measured[i]! - share)).toBeLessThan(0.015),
  )

test('temperature 0 takes the likeliest, of equals the first, and draws nothing', () => {
  const random = new Random(1)
  expect(chooseToken(LOGITS, random, { temperature: 0 })).toBe(1)
  expect(chooseToken(Float32Array.of(1, 3, 3), random, { temperature: 0 })).toBe(1)
  expect(random.next()).toBe(new Random(1).next())
  const broken = Float32Array.of(1, NaN, 3)
  for (const temperature of [0, 1])
    expect(() => chooseToken(broken, random, { temperature })).toThrow(expect.objectContaining({ code: 'E_RUNTIME' }))
})

test.each<[string, Sampling, number[]]>([
  ['the model’s own distribution', { temperature: 1 }, [0.1, 0.4, 0.2, 0.3]],
  ['temperature 0.5 squares it', { temperature: 0.5 }, [1 / 30, 16 / 30, 4 / 30, 9 / 30]],
  ['top-k 2', { temperature: 1, topK: 2 }, [0, 4 / 7, 0, 3 / 7]],
  ['top-k above the vocabulary', { temperature: 1, topK: 9 }, [0.1, 0.4, 0.2, 0.3]],
  ['top-p 0.5 needs two', { temperature: 1, topP: 0.5 }, [0, 4 / 7, 0, 3 / 7]],
  ['top-p 0.3 needs one', { temperature: 1, topP: 0.3 }, [0, 1, 0, 0]],
  ['top-p 1', { temperature: 1, topP: 1 }, [0.1, 0.4, 0.2, 0.3]],
  ['top-p of what top-k leaves', { temperature: 1, topK: 3, topP: 0.6 }, [0, 4 / 7, 0, 3 / 7]],
  ['the temperature comes first', { temperature: 0.5, topP: 0.5 }, [0, 1, 0, 0]],
])('%s', (_, sampling, expected) => near(shares(sampling), expected))
