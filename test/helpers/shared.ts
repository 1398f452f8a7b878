/** @file Folder of the development models, data and golden values. It lies beside the project, not in its repository. */

import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import type { TestOptions } from 'vitest'
import { unless } from './unless.ts'

const candidates = [process.env['OMNIQUANT_SHARED'], resolve(import.meta.dirname, '../../../shared')]

/** Folder with models/, zoo/, data/ and golden/, or undefined. */
export const sharedDir: string | undefined = candidates.find(
  folder => folder !== undefined && existsSync(resolve(folder, 'golden')),
)

/** Options of tests that need it. */
export const needsShared: TestOptions = unless(
  sharedDir === undefined ? 'the models of ../shared are not here (OMNIQUANT_SHARED names their folder)' : undefined,
)
