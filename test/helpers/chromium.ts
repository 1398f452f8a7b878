/** @file A page in headless Chromium, through its debugging pipe: errors, requests, sizes, pictures. Needs no package. */

import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'

const PLACES = [
  process.env['CHROMIUM'],
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
]

/** A Chromium of this machine, if there is one. */
export const chromium: string | undefined = PLACES.find(path => path !== undefined && existsSync(path))

export interface View {
  readonly width: number
  readonly height?: number
  readonly scheme?: 'light' | 'dark'
}

export interface Seen {
  /** Errors and warnings of the console, and exceptions. */
  readonly complaints: readonly string[]
  /** Addresses that were asked for, the page's own too. */
  readonly requests: readonly string[]
  /** Width of the content and of the window. */
  readonly contentWidth: number
  readonly windowWidth: number
  /** Value of an expression. */
  readonly value: unknown
  /** PNG of the whole page. */
  readonly picture: Buffer
}

type Params = Readonly<Record<string, unknown>>

interface Message {
  readonly id?: number
  readonly method?: string
  readonly params?: Params
  readonly result?: Params
  readonly error?: { readonly message: string }
}

/** Messages of the DevTools protocol: JSON texts that end in a zero byte, over the descriptors 3 and 4. */
class Pipe {
  private readonly answers = new Map<number, { done: (result: Params) => void; fail: (error: Error) => void }>()
  private readonly input: Writable
  private count = 0
  private rest = ''
  private readonly onEvent: (method: string, params: Params) => void

  constructor(child: ChildProcess, onEvent: (method: string, params: Params) => void) {
    this.onEvent = onEvent
    this.input = child.stdio[3] as Writable
    const output = child.stdio[4] as Readable
    output.setEncoding('utf8').on('data', (chunk: string) => {
      const parts = (this.rest + chunk).split('\0')
      this.rest = parts.pop()!
      for (const part of parts) this.take(JSON.parse(part) as Message)
    })
    child.once('exit', () => {
      for (const { fail } of this.answers.values()) fail(new Error('Chromium has ended'))
    })
    this.input.on('error', () => {})
  }

  private take({ id, method, params, result, error }: Message): void {
    if (id === undefined) return this.onEvent(method!, params ?? {})
    const answer = this.answers.get(id)
    this.answers.delete(id)
    if (error) answer?.fail(new Error(error.message))
    else answer?.done(result ?? {})
  }

  send(method: string, params: Params = {}, sessionId?: string): Promise<Params> {
    const id = ++this.count
    return new Promise((done, fail) => {
      this.answers.set(id, { done, fail })
      this.input.write(`${JSON.stringify({ id, method, params, ...(sessionId && { sessionId }) })}\0`)
    })
  }
}

/** Opens `url` once for each view. @param expression evaluated in the page. */
export async function look(url: string, views: readonly View[], expression = 'undefined'): Promise<Seen[]> {
  const profile = mkdtempSync(join(tmpdir(), 'omniquant-chromium-'))
  const flags = [
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--hide-scrollbars',
    '--no-first-run',
    '--disable-extensions',
  ]
  const child = spawn(chromium!, [...flags, '--remote-debugging-pipe', `--user-data-dir=${profile}`, 'about:blank'], {
    stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
  })
  const ended = new Promise<void>(done => child.once('exit', () => done()))
  let complaints: string[] = []
  let requests: string[] = []
  let loaded = () => {}
  const pipe = new Pipe(child, (method, params) => {
    if (method === 'Runtime.exceptionThrown' || method === 'Runtime.consoleAPICalled' || method === 'Log.entryAdded')
      complaints.push(JSON.stringify(params))
    if (method === 'Network.requestWillBeSent') requests.push((params['request'] as { url: string }).url)
    if (method === 'Page.loadEventFired') loaded()
  })
  try {
    const { targetId } = await pipe.send('Target.createTarget', { url: 'about:blank' })
    const { sessionId } = await pipe.send('Target.attachToTarget', { targetId, flatten: true })
    const send = (method: string, params: Params = {}) => pipe.send(method, params, sessionId as string)
    for (const domain of ['Page', 'Runtime', 'Log', 'Network']) await send(`${domain}.enable`)
    const seen: Seen[] = []
    for (const { width, height = 900, scheme = 'light' } of views) {
      complaints = []
      requests = []
      await send('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: width < 600 })
      await send('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: scheme }] })
      const load = new Promise<void>(done => (loaded = done))
      await send('Page.navigate', { url })
      await load
      const evaluate = async (text: string): Promise<unknown> => {
        const { result } = await send('Runtime.evaluate', { expression: text, returnByValue: true })
        return (result as { value?: unknown }).value
      }
      const contentWidth = Number(await evaluate('document.documentElement.scrollWidth'))
      const windowWidth = Number(await evaluate('document.documentElement.clientWidth'))
      const value = await evaluate(expression)
      const { data } = await send('Page.captureScreenshot', { captureBeyondViewport: true })
      const picture = Buffer.from(data as string, 'base64')
      seen.push({ complaints, requests, contentWidth, windowWidth, value, picture })
    }
    return seen
  } finally {
    await pipe.send('Browser.close').catch(() => child.kill('SIGKILL'))
    await ended
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 })
  }
}
