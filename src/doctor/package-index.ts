/** @file Files from a Python package index (PEP 503: pages of links), as pip gets them. */

import { createHash } from 'node:crypto'
import { Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { ReadableStream } from 'node:stream/web'
import { messageOf, QuantError } from '../errors.ts'
import { streamToNew } from '../files/atomic-file.ts'

/** The index of pip itself. */
const PYPI = 'https://pypi.org/simple'

const NO_WAY =
  'PIP_INDEX_URL names another index, and NODE_EXTRA_CA_CERTS a file of certificates. docs/gpu.md has the same by hand, with pip.'

/** Address of the index: that of pip's variable, else PyPI. */
export const packageIndex = (env: NodeJS.ProcessEnv = process.env): string =>
  (env['PIP_INDEX_URL'] || PYPI).replace(/\/+$/, '')

const failed = (what: string, cause?: unknown): QuantError => new QuantError('E_DOWNLOAD', what, NO_WAY, { cause })

/** Name and password of an address move into a header: fetch refuses them in the address. */
function request(address: string): Request {
  const url = new URL(address)
  const { username, password } = url
  if (username === '') return new Request(url)
  const credentials = Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`).toString('base64')
  url.username = url.password = ''
  return new Request(url, { headers: { authorization: `Basic ${credentials}` } })
}

async function get(address: string, signal: AbortSignal | undefined): Promise<Response> {
  const shown = address.replace(/\/\/[^/@]*@/, '//')
  let response: Response
  try {
    response = await fetch(request(address), { signal: signal ?? null })
  } catch (error) {
    signal?.throwIfAborted()
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : error
    throw failed(`${shown} cannot be reached: ${messageOf(cause)}`, error)
  }
  if (!response.ok) throw failed(`${shown} answers ${response.status} ${response.statusText}`.trimEnd())
  return response
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&amp;': '&',
  '&quot;': '"',
  '&#x27;': "'",
  '&lt;': '<',
  '&gt;': '>',
}

/** Address of a file of a project. @throws E_DOWNLOAD */
export async function findFile(
  index: string,
  project: string,
  file: string,
  signal: AbortSignal | undefined,
): Promise<string> {
  const page = `${index}/${project}/`
  const response = await get(page, signal)
  const text = await response.text()
  for (const [, link, name] of text.matchAll(/<a\b[^>]*?\bhref\s*=\s*"([^"]*)"[^>]*>\s*([^<]*?)\s*<\/a>/gi)) {
    if (name !== file) continue
    const address = new URL(
      link!.replace(/&[#\w]+;/g, entity => ENTITIES[entity] ?? entity),
      page,
    )
    const from = new URL(page)
    // A private index is asked for its files with the same name and password.
    if (address.host === from.host) [address.username, address.password] = [from.username, from.password]
    address.hash = ''
    return address.href
  }
  throw failed(`${page.replace(/\/\/[^/@]*@/, '//')} has no ${file}`)
}

/** A file as it must be. */
interface Expected {
  readonly file: string
  readonly sha256: string
  readonly bytes: number
}

/**
 * Downloads a file.
 * @param onProgress called with the bytes that have come so far.
 * @throws E_DOWNLOAD when it does not come or is not the file it should be; the error of the system; the AbortSignal's reason.
 */
export async function download(
  address: string,
  path: string,
  { file, sha256, bytes }: Expected,
  onProgress: (done: number) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { body } = await get(address, signal)
  const hash = createHash('sha256')
  let done = 0
  const count = new Transform({
    transform(chunk: Buffer, _encoding, next) {
      hash.update(chunk)
      done += chunk.length
      onProgress(done)
      // More than it should be can be no good, and may never end.
      next(done > bytes ? failed(`${file} is longer than its ${bytes} bytes`) : null, chunk)
    },
  })
  const source = Readable.fromWeb((body ?? new Blob([]).stream()) as ReadableStream)
  try {
    await pipeline(source, count, streamToNew(path), { signal })
  } catch (error) {
    signal?.throwIfAborted()
    if (error instanceof QuantError || (error as NodeJS.ErrnoException).syscall !== undefined) throw error
    throw failed(`the download of ${file} broke off after ${done} bytes: ${messageOf(error)}`, error)
  }
  const found = hash.digest('hex')
  if (found !== sha256) throw failed(`${file} is not the file it should be: its sha256 is ${found}, not ${sha256}`)
}
