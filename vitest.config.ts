import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { BaseSequencer, type TestSpecification } from 'vitest/node'
import { defineConfig } from 'vitest/config'

/** Test files that take long say so in their names: `npm test` leaves them out, `npm run test:all` runs them too. */
const LONG = 'test/**/*.long.test.ts'

/** Limit of a test and of a hook. It is for what hangs: a busy machine may take twenty times as long as an idle one. */
const HANGS_MS = 30 * 60_000

// For the processes that run tests, and for those that tests start.
const preload = pathToFileURL(resolve(import.meta.dirname, 'test/helpers/no-spinning.js')).href
process.env['NODE_OPTIONS'] = `${process.env['NODE_OPTIONS'] ?? ''} --import ${preload}`

/** Long files first: at the end both forks have short ones left. */
class LongFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files)
    const isLong = ({ project }: TestSpecification): boolean => project.name === 'long'
    return [...sorted.filter(isLong), ...sorted.filter(file => !isLong(file))]
  }
}

export default defineConfig({
  test: {
    testTimeout: HANGS_MS,
    hookTimeout: HANGS_MS,
    teardownTimeout: HANGS_MS,
    // onnxruntime sessions use every core already: files run in two forks, one per core of the smallest machine we know.
    pool: 'forks',
    maxWorkers: 2,
    sequence: { sequencer: LongFirst },
    reporters: ['default', './test/helpers/skip-reporter.ts'],
    projects: [
      { extends: true, test: { name: 'quick', include: ['test/**/*.test.ts'], exclude: [LONG] } },
      { extends: true, test: { name: 'long', include: [LONG] } },
    ],
  },
})
