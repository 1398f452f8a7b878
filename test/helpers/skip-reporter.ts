/** @file Reporter of skipped tests: at the end one line for each reason, with the number of tests. */

import type { Reporter, TestCase, TestModule, TestSuite, Vitest } from 'vitest/node'

/** Reason that the test or a group around it gives. */
function reasonOf(test: TestCase): string {
  const result = test.result()
  let [at, reason]: [TestCase | TestSuite | TestModule, string | undefined] = [test, undefined]
  while (at.type !== 'module' && reason === undefined) {
    reason = at.meta().skipped
    at = at.parent
  }
  return reason ?? (result.state === 'skipped' ? result.note : undefined) ?? `no reason given: ${test.fullName}`
}

/** Lines "12 skipped: reason", most first. */
export function skippedLines(tests: Iterable<TestCase>): string[] {
  const counts = new Map<string, number>()
  for (const test of tests) {
    const reason = reasonOf(test)
    counts.set(reason, (counts.get(reason) ?? 0) + 1)
  }
  return [...counts].sort(([, a], [, b]) => b - a).map(([reason, count]) => `${count} skipped: ${reason}`)
}

export default class SkipReporter implements Reporter {
  private vitest: Vitest | undefined

  onInit(vitest: Vitest): void {
    this.vitest = vitest
  }

  onTestRunEnd(modules: readonly TestModule[]): void {
    // A choice by name (-t) skips all others.
    if (this.vitest?.config.testNamePattern !== undefined) return
    const skipped = modules.flatMap(module => [...module.children.allTests('skipped')])
    for (const line of skippedLines(skipped)) process.stdout.write(`${line}\n`)
  }
}
