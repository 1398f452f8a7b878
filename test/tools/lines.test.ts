import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { testFolder } from '../helpers/test-folder.ts'

const TOOL = resolve(import.meta.dirname, '../../tools/lines.js')

test('lines by folder, long files, and files beyond the limit', () => {
  const folder = testFolder()
  mkdirSync(join(folder, 'rules'))
  const files = { 'a.ts': 2, 'rules/b.ts': 3, 'rules/c.js': 5, 'rules/notes.md': 90 }
  for (const [name, lines] of Object.entries(files)) writeFileSync(join(folder, name), 'x\n'.repeat(lines))
  const run = (...args: readonly string[]) => spawnSync(process.execPath, [TOOL, folder, '--json', ...args])
  const { stdout, status } = run('--long', '2', '--limit', '4')
  expect(JSON.parse(String(stdout))).toMatchObject({
    files: 3,
    lines: 10,
    folders: [
      { folder: '.', files: 1, lines: 2, longest: 2 },
      { folder: 'rules', files: 2, lines: 8, longest: 5 },
    ],
    above: [
      { name: 'rules/c.js', lines: 5 },
      { name: 'rules/b.ts', lines: 3 },
    ],
    tooLong: [{ name: 'rules/c.js' }],
  })
  expect(status).toBe(1)
  expect(run().status).toBe(0)
})
