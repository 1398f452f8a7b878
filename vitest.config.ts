import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // They catch what hangs. A machine that others use as well may take ten times as long as an idle one.
    testTimeout: 180_000,
    hookTimeout: 120_000,
    // onnxruntime sessions use every core already: files run in two forks, one per core of the smallest machine we know.
    pool: 'forks',
    maxWorkers: 2,
  },
})
