/** @file Commands of README.md and docs/guide, run as they stand by tools/try-docs.js. Builds come before (pretest). */

import { spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { unless } from './helpers/unless.ts'

const ROOT = resolve(import.meta.dirname, '..')
const PAGES = ['README.md', ...readdirSync(join(ROOT, 'docs/guide')).map(name => `docs/guide/${name}`)]

/** Blocks of a page that are marked `sh`. */
const blocksOf = (page: string): number => readFileSync(join(ROOT, page), 'utf8').match(/^```sh$/gm)?.length ?? 0

test(
  'every command of README and the guide runs, or says why it is not run',
  unless(process.platform === 'win32' ? 'the commands are for bash' : undefined),
  async () => {
    const child = spawn(process.execPath, [join(ROOT, 'tools/try-docs.js')], { stdio: ['ignore', 'pipe', 'pipe'] })
    let [stdout, stderr] = ['', '']
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
    expect([await new Promise(done => child.on('close', done)), stderr]).toEqual([0, ''])
    for (const page of PAGES) {
      const lines = stdout.split('\n').filter(line => line.startsWith(`${page}: `))
      expect(lines.length, page).toBe(blocksOf(page))
      expect(lines.filter(line => !/: (ran in [\d.]+ s|not run \(.+\)): /.test(line))).toEqual([])
    }
    expect(stdout.match(/: ran in /g)!.length).toBeGreaterThan(8)
  },
)
