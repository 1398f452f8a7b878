/**
 * @file Codes of numbers under a given scale and zero point, and the numbers back, with straight-through gradients. Weights and
 * activations share it; so do programs and the user's graph, which has no use for gradients.
 */

import { customVjp } from '../autodiff/custom-vjp.ts'
import type { Builder } from '../graph/builder.ts'
import type { Value } from '../graph/ir.ts'
import { sumOverGroup } from './extremes.ts'
import { type Rounding, roundingConstant } from './round-ste.ts'

/** Numbers as codes, with the values between, which the gradient passes. */
export interface EmittedCodes {
  /** w / scale. */
  readonly ratio: Value
  readonly rounded: Value
  /** Codes before they are clipped. */
  readonly moved: Value
  /** Codes from 0 to `top`, less `codeOffset`. */
  readonly clipped: Value
  readonly codeOffset: number
  readonly w: Value
  readonly scale: Value
  readonly zeroPoint: Value | number
  readonly top: number
  /** w / scale + offset, where an offset is learned. */
  readonly offsetRatio?: Value | undefined
}

/**
 * Codes of numbers. w [G, group, N], scale and zeroPoint [G, 1, N]; activations are the same without N. A `zeroPoint` that is a
 * number holds for all; codes go from 0 to `top`.
 *
 *   t = round(w / scale)      u = t + zeroPoint      q = clip(u, 0, top)
 *
 * Programs round by addition of the constant M of round-ste.ts, which is taken off together with the zero point:
 *   t = w/scale + M      u = t + (zeroPoint - M)
 * With an `offset`, t = round(w / scale + offset): it moves numbers to the other side of a rounding border.
 *
 * A zero point that is a number needs one pass less there: q = clip(t, M - zp, M - zp + top), and codes are q - (M - zp).
 */
export function emitCodes(
  g: Builder,
  w: Value,
  scale: Value,
  zeroPoint: Value | number,
  top: number,
  rounding: Rounding = 'addition',
  offset?: Value,
): EmittedCodes {
  const number = (value: number) => g.scalar(value, w.dtype)
  const ratio = g.op('Div', [w, scale], {}, { role: 'steps' })
  const offsetRatio = offset && g.add(ratio, offset)
  const steps = offsetRatio ?? ratio
  const clip = (moved: Value, first: number) =>
    g.op('Clip', [moved, number(first), number(first + top)], {}, { role: 'codes' })
  if (rounding === 'operator') {
    const zero = typeof zeroPoint === 'number' ? number(zeroPoint) : zeroPoint
    const rounded = g.op('Round', [steps], {}, { role: 'rounded' })
    const moved = g.op('Add', [rounded, zero], {}, { role: 'moved' })
    return {
      ratio,
      rounded,
      moved,
      clipped: clip(moved, 0),
      codeOffset: 0,
      w,
      scale,
      zeroPoint: zero,
      top,
      offsetRatio,
    }
  }
  const M = roundingConstant(w)
  const rounded = g.shift(steps, M)
  const moved = typeof zeroPoint === 'number' ? rounded : g.add(rounded, g.shift(zeroPoint, -M))
  const codeOffset = typeof zeroPoint === 'number' ? M - zeroPoint : 0
  return { ratio, rounded, moved, clipped: clip(moved, codeOffset), codeOffset, w, scale, zeroPoint, top, offsetRatio }
}

/** Codes from 0 to `top`, as floating-point numbers. */
export function plainCodes(g: Builder, { clipped, codeOffset }: EmittedCodes): Value {
  return codeOffset === 0 ? clipped : g.shift(clipped, -codeOffset)
}

/**
 * Numbers that codes stand for, with straight-through gradients: c = q - zeroPoint, product = c * scale.
 *
 * Forward and backward take 3.4 ms for a weight [1024, 2816] in groups of 128 on 2 idle cores. With Round and Where, which cost two
 * and five times what an addition does, it is 6.6 ms.
 *
 * Backward, with p = product and inside = (0 < u < top), which is the gradient of torch's clamp from 2.14 on: none at the bounds
 * themselves, so that the end codes learn as the weights beyond them do. (Before 2.14 it passed at the bounds. Training then
 * follows another path: the losses of ../shared/golden, made with 2.14.1, differ from ours from the second step.)
 *   dscale = sum of dp * (c - inside * w/scale) = sum of dp * (p - inside * w) / scale       dw = inside * dp
 *   doffset = inside * dp * scale
 * This form reads p, which products keep anyway, and w again. No other result is kept for the gradient: a weight costs its own size
 * once more, which sets the memory of learning a block.
 */
export function emitProduct(g: Builder, codes: EmittedCodes): Value {
  const { ratio, rounded, moved, clipped, codeOffset, w, scale, zeroPoint, top, offsetRatio } = codes
  const centered =
    typeof zeroPoint === 'number'
      ? g.shift(clipped, -codeOffset - zeroPoint)
      : g.op('Sub', [clipped, zeroPoint], {}, { role: 'centered' })
  const product = g.op('Mul', [centered, scale], {}, { role: 'dequantized' })
  // Products of codes between 1 and top - 1 are nearer to the middle of the range than top / 2 - 1/2 steps. That is half a step away
  // from any, so that rounding moves none across. Min, Max and Equal with the bounds take nearly twice as long on the CPU.
  const inside = (builder: Builder) => {
    const code = top / 2
    const middle =
      typeof zeroPoint === 'number'
        ? builder.scale(scale, code - zeroPoint)
        : builder.mul(builder.shift(builder.neg(zeroPoint), code), scale)
    const reach = builder.op('Abs', [builder.scale(scale, code - 0.5)])
    const distance = builder.op('Abs', [builder.sub(product, middle)])
    return builder.cast(builder.op('Less', [distance, reach]), w.dtype!)
  }

  // From the product back to the division the walk carries dp as it is: c * scale = w wherever nothing was clamped.
  for (const { producer } of [rounded, moved, clipped, centered]) customVjp(producer!, (_g, _node, [dp]) => [dp])
  customVjp(product.producer!, (builder, _node, [dp], needs) => {
    if (!dp || !needs[1]) return [dp]
    const error = builder.sub(product, builder.mul(inside(builder), w))
    return [dp, builder.div(sumOverGroup(builder, builder.mul(error, dp)), scale)]
  })
  if (offsetRatio)
    customVjp(offsetRatio.producer!, (builder, _node, [dp], needs) => [
      dp,
      dp && needs[1] ? builder.mul(builder.mul(inside(builder), dp), scale) : undefined,
    ])
  customVjp(ratio.producer!, (builder, _node, [dp], needs) => [
    dp && needs[0] ? builder.mul(inside(builder), dp) : undefined,
  ])
  return product
}
