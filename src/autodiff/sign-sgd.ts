/** @file SignSGD (arXiv:1802.04434, Algorithm 1): every parameter moves by its learning rate, against the sign of its gradient. */

import type { Optimizer } from './optimizer.ts'
import { perStretch } from './rates.ts'

/** Gradients from 2^-100 on are 1 or beyond after this factor. */
const FACTOR = 2 ** 100

/**
 * p <- p - rate sign(g). Nothing is carried from step to step. AutoRound learns the rounding of weights so (arXiv:2309.05516).
 *
 * sign(g) = clip(2^100 g, -1, 1), because WebGPU has no Sign: 0 at 0, and less than 1 only where |g| < 2^-100.
 */
export const signSgd: Optimizer = {
  state: [],
  step(g, { parameter, gradient, rates }) {
    const sign = g.op('Clip', [g.scale(gradient, FACTOR), g.scalar(-1), g.scalar(1)])
    return {
      parameter: g.sub(
        parameter,
        perStretch(g, sign, rates, (part, rate) => g.mul(part, rate)),
      ),
      state: [],
    }
  },
}
