/** @file Seeded random numbers, the same on every machine. Knows nothing of what they are drawn for. */

/** Bijective mixing of 32 bits: the finalizer of MurmurHash3 (Austin Appleby, public domain). */
function mix32(value: number): number {
  let h = value >>> 0
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

function rotateLeft(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits))
}

/**
 * xoshiro128** 1.1 by David Blackman and Sebastiano Vigna (public domain, prng.di.unimi.it/xoshiro128starstar.c):
 * period 2^128 - 1, 128 bits of state. Not for secrets.
 */
export class Random {
  private readonly state: Uint32Array

  /**
   * @param seed any integer; equal seeds give equal sequences.
   * @param stream sequences of one seed that have nothing to do with each other: one per sample, whatever the batch.
   */
  constructor(seed: number, stream: number = 0) {
    // A Weyl sequence through a bijection, as SplitMix does: close seeds give states far apart.
    let weyl = 0
    for (const word of [seed, Math.floor(seed / 2 ** 32), stream]) weyl = mix32(weyl + 0x9e3779b9 + (word >>> 0))
    this.state = Uint32Array.from({ length: 4 }, (_, i) => mix32(weyl + Math.imul(i + 1, 0x9e3779b9)))
    // The generator cannot leave the all-zero state, and mix32 maps exactly one of 2^32 words to zero: never four.
  }

  /** Continues from a state that is written down, for instance in the published test values. */
  static fromState(state: readonly [number, number, number, number]): Random {
    const random = new Random(0)
    random.state.set(state)
    return random
  }

  /** A whole number in [0, 2^32). */
  uint32(): number {
    const s = this.state
    const result = Math.imul(rotateLeft(Math.imul(s[1]!, 5), 7), 9) >>> 0
    const t = s[1]! << 9
    s[2]! ^= s[0]!
    s[3]! ^= s[1]!
    s[1]! ^= s[2]!
    s[0]! ^= s[3]!
    s[2]! ^= t
    s[3] = rotateLeft(s[3]!, 11)
    return result
  }

  /** A number in [0, 1) with 53 random bits. */
  next(): number {
    const high = this.uint32() >>> 5
    const low = this.uint32() >>> 6
    return (high * 2 ** 26 + low) / 2 ** 53
  }

  /** A whole number in [0, n). The unevenness of the scaling, below n / 2^53, is nothing for the n of a data set. */
  int(n: number): number {
    return Math.floor(this.next() * n)
  }
}
