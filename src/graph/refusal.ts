/** @file "No" as a value, for callers that go on without what they asked for. An error that ends the work is thrown instead (errors.ts). */

/** An answer that says why not. */
export interface Refused<At = string> {
  /** Node, value or name that the reason is about. */
  readonly at: At
  /** Part of a sentence, for people. */
  readonly reason: string
}

/** Tells a refusal from a result. */
export const isRefused = (answer: unknown): answer is Refused<unknown> =>
  typeof answer === 'object' && answer !== null && 'at' in answer && 'reason' in answer

/** Splits answers into results and refusals, each in their order. */
export function separate<T, At>(answers: readonly (T | Refused<At>)[]): { results: T[]; refused: Refused<At>[] } {
  const results: T[] = []
  const refused: Refused<At>[] = []
  for (const answer of answers) {
    if (isRefused(answer)) refused.push(answer as Refused<At>)
    else results.push(answer)
  }
  return { results, refused }
}
