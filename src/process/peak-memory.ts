/** @file Memory that this process has taken. */

/** Largest resident set of this process so far, in bytes; undefined where the system does not tell. */
export function peakMemory(): number | undefined {
  const { maxRSS } = process.resourceUsage()
  return maxRSS > 0 ? maxRSS * 1024 : undefined
}
