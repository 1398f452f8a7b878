/** @file A folder of one test file, removed after it. */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'

/** Makes an empty folder under the system's temporary folder. Called outside of tests, the folder lasts as long as their file. */
export function tempDir(): string {
  const folder = mkdtempSync(join(tmpdir(), 'omniquant-test-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}
