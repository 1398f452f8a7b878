/** @file Types of greedy.js, for tests in TypeScript. */

export interface GreedyResult {
  readonly tokens: readonly number[]
  readonly logits: readonly number[]
}

export interface Reference extends GreedyResult {
  readonly margins: readonly number[]
}

export function greedy(
  ort: object,
  session: object,
  prompt: readonly number[],
  count: number,
  headSize?: number,
): Promise<Reference>

export const TOLERANCE: number

export function compare(reference: Reference, result: GreedyResult): { readonly agrees: boolean; readonly line: string }
