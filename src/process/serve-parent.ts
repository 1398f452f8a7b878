/** @file Ways of a child process that works for its parent and answers to nobody else. */

/** Names the process, and lets it end with its parent and not before. */
export function serveParent(title: string): void {
  process.title = title
  // Ctrl-C reaches every process of the terminal; the parent decides about it.
  for (const signal of ['SIGINT', 'SIGHUP'] as const) process.on(signal, () => {})
  // Without a parent nobody waits for an answer.
  process.on('disconnect', () => process.exit(1))
}
