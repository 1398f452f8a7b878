/** @file What the process of the fuzzer tells the one that started it, and the bounds a case must keep. */

/** Longest a case may take. The slowest known take a tenth of it; hangs take for ever. */
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
