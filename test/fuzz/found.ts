/** @file Messages of the fuzzer's process to its parent, and the bounds that a case must keep. */

/** Longest time of a case. The slowest known cases take a tenth of it. */
export const MAX_CASE_MS = 2000
/** Most memory the process may ever have had. */
export const MAX_RSS_BYTES: number = 1.5 * 2 ** 30

export interface Summary {
  readonly count: number
  /** Cases by "kind outcome". */
  readonly outcomes: Readonly<Record<string, number>>
  readonly slowest: { readonly case: number; readonly kind: string; readonly elapsedMs: number }
  readonly peakBytes: number
}

export interface Found {
  readonly case: number
  readonly kind: string
  readonly what: 'exception' | 'files left' | 'slow' | 'memory' | 'crash' | 'hang' | 'done'
  readonly detail: string
  readonly summary?: Summary
}
