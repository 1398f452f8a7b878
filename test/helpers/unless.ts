/** @file Tests that are skipped where something is missing, with the reason. The reasons are printed at the end (skip-reporter.ts). */

import type { TestOptions } from 'vitest'

declare module 'vitest' {
  interface TaskMeta {
    /** Reason for skipping a test, or all tests of a group. */
    skipped?: string
  }
}

/** Options of a test, or of a group of tests. It is skipped unless `missing` is undefined. @param missing the reason, for a reader. */
export const unless = (missing: string | undefined): TestOptions =>
  missing === undefined ? {} : { skip: true, meta: { skipped: missing } }
