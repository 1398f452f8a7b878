/**
 * @file From numbers, scale and zero point to codes and back, with straight-through gradients: what quantizing a weight and
 * quantizing an activation have in common. Knows neither, nor where scales come from.
 */

import { customVjp } from '../autodiff/custom-vjp.ts'
import type { Builder } from '../graph/builder.ts'
import type { Value } from '../graph/ir.ts'
import { sumOverGroup } from './extremes.ts'
import { roundingConstant } from './round-ste.ts'

/**
 * Codes and what they stand for, in as few passes as could be found. A weight [1024, 2816] in groups of 128, forward and backward,
 * 2 idle cores: 3.4 ms, against 6.6 ms with Round and Where, which cost two and five times what an addition does.
 *
 * w [G, group, N], scale and zeroPoint [G, 1, N]; or activations, all without N. Where `zeroPoint` is absent it is `constantZeroPoint`;
 * codes go from 0 to `top`. Forward, with the rounding constant M of round-ste.ts:
 *   t = w/scale + M      u = t + (zeroPoint - M)      q = clip(u, 0, top)      c = q - zeroPoint      product = c * scale
 * A constant zero point needs one pass less: q = clip(t, M - zp, M - zp + top), c = q - M.
 *
 * Backward, with p = product and inside = (0 < u < top), the gradient of torch's clamp from 2.14 on: none at the bounds
 * themselves, so that the end codes learn as the weights beyond them do. (Before 2.14 it passed at the bounds; training then
 * follows another path, and the losses of ../shared/golden, which were made with 2.14.1, part from ours at the second step.)
 *   dscale = sum of dp * (c - inside * w/scale) = sum of dp * (p - inside * w) / scale       dw = inside * dp
 * written so that p, which products keep anyway, and w are read again instead of intermediate results being kept: a weight costs its
 * own size once more, and that is what the memory of learning a block comes to.
 */
export function emitSteps(
  g: Builder,
  w: Value,
  scale: Value,
  zeroPoint: Value | undefined,
  top: number,
  constantZeroPoint: number,
): { product: Value; codes: () => Value } {
  const number = (value: number) => g.scalar(value, w.dtype)
  const M = roundingConstant(w)
  const ratio = g.div(w, scale)
  const t = g.shift(ratio, M)
  const u = zeroPoint ? g.add(t, g.shift(zeroPoint, -M)) : t
  const first = zeroPoint ? 0 : M - constantZeroPoint
  const q = g.op('Clip', [u, number(first), number(first + top)])
  const c = zeroPoint ? g.sub(q, zeroPoint) : g.shift(q, -M)
  const product = g.mul(c, scale)
  // Products of codes between 1 and top - 1: the bounds are half a step away from any, so that rounding moves none across.
  const inside = (builder: Builder) => {
    const bound = (code: number) =>
      zeroPoint
        ? builder.mul(builder.shift(builder.neg(zeroPoint), code), scale)
        : builder.scale(scale, code - constantZeroPoint)
    const between = builder.op('Min', [builder.op('Max', [product, bound(0.5)]), bound(top - 0.5)])
    return builder.cast(builder.op('Equal', [product, between]), w.dtype!)
  }

  // From the product back to the division the walk carries dp as it is: c * scale = w wherever nothing was clamped.
  for (const { producer } of [u, q, c]) customVjp(producer!, (_g, _node, [dp]) => [dp])
  customVjp(product.producer!, (builder, _node, [dp], needs) => {
    if (!dp || !needs[1]) return [dp]
    const error = builder.sub(product, builder.mul(inside(builder), w))
    return [dp, builder.div(sumOverGroup(builder, builder.mul(error, dp)), scale)]
  })
  customVjp(ratio.producer!, (builder, _node, [dp], needs) => [
    dp && needs[0] ? builder.mul(inside(builder), dp) : undefined,
  ])
  return { product, codes: () => (zeroPoint ? q : g.shift(q, -first)) }
}
