/** @file A folder of one test file, gone after it. */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'

/** Makes an empty folder under the system's temporary folder; called outside of tests, it goes when their file is done. */
export function tempDir(): string {
  const folder = mkdtempSync(join(tmpdir(), 'omniquant-test-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}
