/** @file Folder of the development models, data and golden values. It lies beside the project, not in its repository. */

import { existsSync } from 'node:fs'
import { resolve } from 'node:path'

const candidates = [process.env['OMNIQUANT_SHARED'], resolve(import.meta.dirname, '../../../shared')]

/** Folder with models/, zoo/, data/ and golden/, or undefined. Tests that need it are skipped then, with the reason. */
export const sharedDir: string | undefined = candidates.find(
  folder => folder !== undefined && existsSync(resolve(folder, 'golden')),
)
