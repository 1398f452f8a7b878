/** @file The lint step that reads the first word of doc comments. */

import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { testFolder } from '../helpers/test-folder.ts'

const TOOL = resolve(import.meta.dirname, '../../tools/check-words.js')

/** A doc comment. Written out in this file it would be one of this file. */
const doc = (text: string): string => ['/*', ` ${text} `, '/'].join('*')

/** Output and exit code of the tool for a folder with these files. */
function check(files: Readonly<Record<string, string>>): { lines: string[]; status: number | null } {
  const folder = testFolder()
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), text)
  }
  const { stdout, status } = spawnSync(process.execPath, [TOOL, folder], { encoding: 'utf8' })
  return { lines: stdout.replaceAll(`${folder}/`, '').trim().split('\n'), status }
}

test('doc comments that begin with a question word are listed, on one line or several, behind @file too', () => {
  const { lines, status } = check({
    'a.ts': `${doc('@file What a file is.')}\n\n${doc('\n * Whether it is one.\n')}\nconst a = 1\n`,
    'deep/b.js': `${doc('@file A file.')}\n\n  ${doc('Of both.')}\nconst b = 1\n`,
    'c.md': doc('What no source is.'),
  })
  expect(lines).toEqual([
    'a.ts:1 begins with "What a file is. ..."',
    'a.ts:3 begins with "Whether it is one. ..."',
    'deep/b.js:3 begins with "Of both. ..."',
    '3 doc comments begin with a question word: begin with the noun or the verb.',
  ])
  expect(status).toBe(1)
})

test('comments that begin with a noun or a verb pass, and so do question words further on', () => {
  const text = `${doc('@file Names of files.')}\n\n${doc('Reads what is there.')}\nconst a = 1 // Why not\n\n${doc('Whole files.')}\n`
  expect(check({ 'a.ts': text })).toEqual({ lines: [''], status: 0 })
})
