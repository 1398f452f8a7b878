/** @file Numbers that learning gives a site of quantized activations, by their role. Learning and export share the names. */

import { isIdentity } from '../../kernels/orthonormal.ts'

/**
 * 'scale' and 'zeroPoint' [] of a fixed range. 'left' [n1, n1] and 'right' [n2, n2] of a matrix that the value is multiplied by before it
 * is quantized (kernels/kronecker.ts). 'minRatio' and 'maxRatio' [], shares of a token's range that are quantized.
 */
export type SiteRole = 'scale' | 'zeroPoint' | 'left' | 'right' | 'minRatio' | 'maxRatio'

/** Numbers of a site; roles that it does not have are absent. */
export type SiteConstants<T> = Readonly<Partial<Record<SiteRole, T>>>

/** True where a site has a matrix that is not the identity. */
export const hasMatrix = ({ left, right }: SiteConstants<Float32Array>): boolean =>
  left !== undefined && right !== undefined && !(isIdentity(left) && isIdentity(right))

/** The entries of a site, in the order of its keys. */
export const entriesOf = <T>(constants: SiteConstants<T>): [SiteRole, T][] =>
  (Object.entries(constants) as [SiteRole, T | undefined][]).flatMap(([role, value]): [SiteRole, T][] =>
    value === undefined ? [] : [[role, value]],
  )
