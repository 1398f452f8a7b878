/** @file Programs that are compiled when they are first needed, and released together. */

import type { Graph } from '../graph/ir.ts'
import { compile, type Session, type SessionOptions } from './session.ts'

/** Compiled programs by key. Release them when done. */
export class Programs {
  private readonly options: SessionOptions
  private readonly sessions = new Map<string, Session>()

  constructor(options: SessionOptions) {
    this.options = options
  }

  /** The program of `key`, which says all that `make` depends on. */
  async get(key: string, make: () => Graph): Promise<Session> {
    const session = this.sessions.get(key) ?? (await compile(make(), this.options))
    this.sessions.set(key, session)
    return session
  }

  async release(): Promise<void> {
    for (const session of this.sessions.values()) await session.release()
    this.sessions.clear()
  }
}

/** Calls `use` with programs of these options, and releases them. */
export async function withPrograms<T>(options: SessionOptions, use: (programs: Programs) => Promise<T>): Promise<T> {
  const programs = new Programs(options)
  try {
    return await use(programs)
  } finally {
    await programs.release()
  }
}
