import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { testFolder } from '../helpers/test-folder.ts'

const TOOL = resolve(import.meta.dirname, '../../tools/import-graph.js')

function graphOf(files: Readonly<Record<string, string>>, order: string) {
  const folder = testFolder()
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), text)
  }
  const { stdout, status } = spawnSync(process.execPath, [TOOL, folder, '--order', order, '--json'], {
    encoding: 'utf8',
  })
  return { found: JSON.parse(stdout) as Record<string, unknown>, status }
}

test('type-only, dynamic and re-exported imports count; rooms, levels, circles and arrows against the order are found', () => {
  const { found, status } = graphOf(
    {
      'low/a.ts': "import { join } from 'node:path'\nexport const a = join\n",
      'low/b.ts': "import type { C } from '../high/c.ts'\nexport type B = C\n",
      'high/c.ts': "export { a } from '../low/a.ts'\nexport const c = () => import('./d.ts')\nexport type C = 1\n",
      'high/d.ts': "import type { C } from './c.ts'\nexport type D = C\n",
      'top.ts': "import './high/c.ts'\n// import './not-there.ts'\n",
    },
    'low,high,top.ts',
  )
  expect(found).toMatchObject({
    files: 5,
    imports: 5,
    importsBetweenRooms: 3,
    uphill: ['low/b.ts -> high/c.ts'],
    circles: [['high/c.ts', 'high/d.ts']],
    roomCircles: [['high', 'low']],
    // a; then c and d, which share a level; then those that import them.
    fileLevels: { 'low/a.ts': 1, 'high/c.ts': 2, 'high/d.ts': 2, 'low/b.ts': 3, 'top.ts': 3 },
    levels: 3,
  })
  expect(status).toBe(1)
})

test('a tree in order ends well', () => {
  const { found, status } = graphOf(
    { 'low/a.ts': 'export const a = 1\n', 'high/b.ts': "export * from '../low/a.ts'\n" },
    'low,high',
  )
  expect(found).toMatchObject({ uphill: [], circles: [], arrows: [{ arrow: 'high -> low', imports: 1 }] })
  expect(status).toBe(0)
})
