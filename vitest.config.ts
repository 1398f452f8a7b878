import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 60_000,
    // onnxruntime sessions use every core already: files run in two forks, one per core of the smallest machine we know.
    pool: 'forks',
    maxWorkers: 2,
  },
})
