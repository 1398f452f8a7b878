/**
 * @file Calls of node:fs that fail. A test says:
 * `vi.mock('node:fs', async original => (await import('../helpers/failing-fs.ts')).failingFs(await original()))`.
 */

import type fs from 'node:fs'

/** Calls that change the disk or report its state. */
const COUNTED: readonly (keyof typeof fs)[] = [
  ...(['openSync', 'writeSync', 'fsyncSync', 'closeSync', 'renameSync', 'rmSync', 'mkdirSync'] as const),
  ...(['lstatSync', 'readdirSync'] as const),
]

interface Faults {
  /** Calls so far. */
  count: number
  /** The call that fails; none at Infinity. */
  at: number
  /** All later calls fail too, as if the process had ended. */
  forever: boolean
  reset(at?: number, forever?: boolean): void
}

export const faults: Faults = {
  count: 0,
  at: Infinity,
  forever: false,
  reset(at = Infinity, forever = false) {
    Object.assign(this, { count: 0, at, forever })
  },
}

export function failingFs(original: typeof fs): typeof fs {
  const wrapped: Record<string, unknown> = { ...original }
  for (const name of COUNTED) {
    const call = original[name] as (...args: unknown[]) => unknown
    wrapped[name] = (...args: unknown[]) => {
      const index = faults.count++
      if (index === faults.at || (faults.forever && index > faults.at))
        throw Object.assign(new Error(`EIO: i/o error, ${name} [call ${index}]`), { code: 'EIO' })
      return name === 'fsyncSync' ? undefined : call(...args) // Files of tests need not be durable.
    }
  }
  return { ...(wrapped as unknown as typeof fs), default: wrapped } as typeof fs
}
