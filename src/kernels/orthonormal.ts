/** @file Orthonormal matrices: the identity, and those that spread a number over all others. */

/** I [n, n], row-major. */
export const identityMatrix = (n: number): Float64Array =>
  Float64Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0))

/**
 * Symmetric orthonormal matrix [n, n], row-major: the Kronecker product of a Hadamard matrix of the power of two in n (Sylvester) and a
 * discrete Hartley transform (Bracewell 1983) of the odd rest, cas(t) = cos(t) + sin(t). It is its own inverse.
 */
export function spreadingMatrix(n: number): Float64Array {
  let odd = n
  while (odd % 2 === 0) odd /= 2
  return Float64Array.from({ length: n * n }, (_, index) => {
    const [i, j] = [Math.floor(index / n), index % n]
    const angle = (2 * Math.PI * (((i % odd) * (j % odd)) % odd)) / odd
    const sign = bitsIn(Math.floor(i / odd) & Math.floor(j / odd)) % 2 === 0 ? 1 : -1
    return (sign * (Math.cos(angle) + Math.sin(angle))) / Math.sqrt(n)
  })
}

/** True for the numbers of `identityMatrix`. */
export const isIdentity = (matrix: Float32Array): boolean => {
  const n = Math.sqrt(matrix.length)
  return matrix.every((value, i) => value === (i % (n + 1) === 0 ? 1 : 0))
}

function bitsIn(number: number): number {
  let count = 0
  for (let rest = number; rest > 0; rest >>= 1) count += rest & 1
  return count
}
