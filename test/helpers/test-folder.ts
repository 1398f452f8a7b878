/** @file A folder of one single test, removed after it. */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'

/** Makes an empty folder under the system's temporary folder and removes it when the running test ends. */
export function testFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'omniquant-test-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}
