/** @file Installation of CUDA from a server of our own, with tiny wheels: what is fetched, checked, linked, and left when it fails. */

import { createHash } from 'node:crypto'
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { CudaWheel } from '../../src/doctor/cuda-wheels.ts'
import { type Installing, installCuda, usualFolder } from '../../src/doctor/install-cuda.ts'
import { packageIndex } from '../../src/doctor/package-index.ts'
import { tempDir } from '../helpers/temp-dir.ts'
import { zipOf } from '../helpers/write-zip.ts'

const folder = tempDir()
let count = 0
const [CUDA, SHARED] = ['libonnxruntime_providers_cuda.so', 'libonnxruntime_providers_shared.so']

const ARCHIVES: Readonly<Record<string, Buffer>> = {
  'ort_gpu-1.whl': zipOf({
    [`onnxruntime/capi/${CUDA}`]: 'cuda '.repeat(100),
    [`onnxruntime/capi/${SHARED}`]: 'shared',
    'onnxruntime/capi/libonnxruntime.so.1': 'not this one',
  }),
  'cublas-13.whl': zipOf({ 'nvidia/cu13/lib/libcublas.so.13': 'blas', 'nvidia/cu13/include/cublas.h': 'header' }),
}

const wheel = (project: string, file: string, needed: RegExp): CudaWheel => {
  const archive = ARCHIVES[file]!
  const sha256 = createHash('sha256').update(archive).digest('hex')
  return { project, file, sha256, bytes: archive.length, needed, unpackedBytes: 1000 }
}
const WHEELS = [
  wheel('ort-gpu', 'ort_gpu-1.whl', /capi\/libonnxruntime_providers_\w+\.so$/),
  wheel('cublas', 'cublas-13.whl', /\/lib\/libcublas\.so\.13$/),
]

/** Requests to the server, "GET /simple/cublas/ password". */
const asked: string[] = []
/** Changes of what it sends, by the name of the file. */
const spoiled = new Map<string, (archive: Buffer) => Buffer>()
const server = createServer((request, response) => {
  const { url = '', headers } = request
  asked.push(`${url}${headers.authorization === undefined ? '' : ` ${headers.authorization}`}`)
  const project = /^\/simple\/([\w-]+)\/$/.exec(url)?.[1]
  const file = /^\/files\/([\w.-]+)/.exec(url)?.[1]
  if (project !== undefined) {
    const links = WHEELS.filter(each => each.project === project).map(
      each =>
        `<a href="../../files/${each.file}?a=1&amp;b=2#sha256=0" data-requires-python="&gt;=3">${each.file}</a><br>`,
    )
    response.end(`<html><body><a href="../../files/other.whl">other.whl</a>${links.join('\n')}</body></html>`)
  } else if (file !== undefined && ARCHIVES[file]) {
    const change = spoiled.get(file) ?? (archive => archive)
    response.end(change(ARCHIVES[file]))
  } else response.writeHead(404).end()
})
let index = ''
beforeAll(async () => {
  await new Promise<void>(done => server.listen(0, '127.0.0.1', done))
  index = `http://127.0.0.1:${(server.address() as AddressInfo).port}/simple`
})
afterAll(() => void server.close())

/** Settings with new folders. */
function scene(change: Partial<Installing> = {}): Installing & { readonly into: string; readonly runtime: string } {
  const runtime = join(folder, `runtime-${count}`)
  mkdirSync(runtime)
  asked.length = 0
  spoiled.clear()
  return { into: join(folder, `into-${count++}`), runtime, index, wheels: WHEELS, ...change }
}

test('what is needed of the wheels is fetched and linked; the wheels go', async () => {
  const said: string[] = []
  const place = scene({ onProgress: text => said.push(text) })
  const report = await installCuda(place)
  expect(readdirSync(place.into).sort()).toEqual(['libcublas.so.13', CUDA, SHARED, 'omniquant-cuda.json'])
  expect(readFileSync(join(place.into, CUDA), 'utf8')).toBe('cuda '.repeat(100))
  for (const name of [CUDA, SHARED]) expect(readlinkSync(join(place.runtime, name))).toBe(join(place.into, name))
  expect(report).toMatchObject({
    folder: place.into,
    fetched: ['ort-gpu', 'cublas'],
    kept: [],
    downloadedBytes: WHEELS.reduce((sum, { bytes }) => sum + bytes, 0),
    links: [join(place.runtime, SHARED), join(place.runtime, CUDA)],
    undo: [`rm ${join(place.runtime, SHARED)} ${join(place.runtime, CUDA)}`, `rm -r ${place.into}`],
  })
  expect(said).toContain('cublas  unpacking')
  expect(asked).toEqual([
    '/simple/ort-gpu/',
    '/files/ort_gpu-1.whl?a=1&b=2',
    '/simple/cublas/',
    '/files/cublas-13.whl?a=1&b=2',
  ])
})

test('what is there is not fetched again, and links that npm removed come back', async () => {
  const place = scene()
  await installCuda(place)
  const [other, again] = [scene().runtime, { ...place }]
  const report = await installCuda({ ...again, runtime: other })
  expect([report.fetched, report.kept, report.downloadedBytes, asked]).toEqual([[], ['ort-gpu', 'cublas'], 0, []])
  expect(readlinkSync(join(other, CUDA))).toBe(join(place.into, CUDA))
  writeFileSync(join(place.into, 'libcublas.so.13'), 'cut')
  expect((await installCuda(again)).fetched).toEqual(['cublas'])
  expect(readFileSync(join(place.into, 'libcublas.so.13'), 'utf8')).toBe('blas')
})

test.each<[string, (archive: Buffer) => Buffer, RegExp]>([
  ['another file', archive => Buffer.from(archive).fill(0, 40, 44), /is not the file it should be: its sha256/],
  ['a shorter file', archive => archive.subarray(0, 100), /is not the file it should be: its sha256/],
  ['a longer file', archive => Buffer.concat([archive, archive]), /is longer than its \d+ bytes/],
])('%s is refused, nothing is linked, and the next call goes on', async (_, change, message) => {
  const place = scene()
  spoiled.set('cublas-13.whl', change)
  await expect(installCuda(place)).rejects.toMatchObject({
    code: 'E_DOWNLOAD',
    message: expect.stringMatching(message) as string,
  })
  expect(readdirSync(place.runtime)).toEqual([])
  expect(readdirSync(place.into).filter(name => name.endsWith('.whl'))).toEqual([])
  spoiled.clear()
  expect(await installCuda(place)).toMatchObject({ fetched: ['cublas'], kept: ['ort-gpu'] })
})

test('an index that is not there, has no such project or no such file is one error with a way out', async () => {
  const hint = expect.stringContaining('PIP_INDEX_URL') as string
  const error = (text: string) => ({ code: 'E_DOWNLOAD', message: expect.stringContaining(text) as string, hint })
  const place = scene()
  await expect(installCuda({ ...place, index: 'http://127.0.0.1:9/simple' })).rejects.toMatchObject(
    error('cannot be reached'),
  )
  const unknown = [{ ...WHEELS[0]!, project: 'no-such' }]
  await expect(installCuda({ ...place, wheels: unknown })).rejects.toMatchObject(
    error('/simple/no-such/ has no ort_gpu-1.whl'),
  )
  const missing = [{ ...WHEELS[0]!, file: 'ort_gpu-2.whl' }]
  await expect(installCuda({ ...place, wheels: missing })).rejects.toMatchObject(error('has no ort_gpu-2.whl'))
})

test('a private index gets its name and password, which no message shows', async () => {
  const place = scene({ index: index.replace('//', '//me:se%40cret@') })
  await installCuda(place)
  const basic = ` Basic ${Buffer.from('me:se@cret').toString('base64')}`
  expect(asked).toHaveLength(4)
  expect(asked.every(line => line.endsWith(basic))).toBe(true)
  const wheels = [{ ...WHEELS[0]!, sha256: 'x', file: 'ort_gpu-2.whl' }]
  const error = (await installCuda({ ...place, wheels }).catch((thrown: unknown) => thrown)) as Error
  expect(error.message).not.toContain('cret')
})

test('a provider file of npm’s own installation and a folder with other files stay as they are', async () => {
  const place = scene()
  writeFileSync(join(place.runtime, CUDA), 'npm’s')
  const hint = expect.stringContaining(`rm ${join(place.runtime, CUDA)}`) as string
  await expect(installCuda(place)).rejects.toMatchObject({ code: 'E_OUTPUT', hint })
  expect([readFileSync(join(place.runtime, CUDA), 'utf8'), asked]).toEqual(['npm’s', []])
  const full = scene()
  mkdirSync(full.into)
  writeFileSync(join(full.into, 'mine.txt'), '')
  await expect(installCuda(full)).rejects.toMatchObject({ code: 'E_OUTPUT', message: `${full.into} holds other files` })
  expect(readdirSync(full.into)).toEqual(['mine.txt'])
})

test('links planted under the names of its files lose them, and what they lead to stays', async () => {
  const place = scene()
  const victim = join(folder, 'victim.json')
  writeFileSync(victim, '{}')
  mkdirSync(place.into)
  const names = ['omniquant-cuda.json', CUDA, SHARED, 'libcublas.so.13', ...WHEELS.map(({ file }) => file)]
  for (const name of names) symlinkSync(victim, join(place.into, name))
  await installCuda(place)
  expect(readFileSync(victim, 'utf8')).toBe('{}')
  const left = readdirSync(place.into)
  expect(left.sort()).toEqual(['libcublas.so.13', CUDA, SHARED, 'omniquant-cuda.json'])
  for (const name of left) expect(lstatSync(join(place.into, name)).isFile(), name).toBe(true)
})

test('a damaged record of the folder is one error, which names it', async () => {
  const place = scene()
  mkdirSync(place.into)
  const record = join(place.into, 'omniquant-cuda.json')
  writeFileSync(record, '{')
  await expect(installCuda(place)).rejects.toMatchObject({
    code: 'E_OUTPUT',
    message: expect.stringContaining(`${record} is damaged`) as string,
  })
  rmSync(record)
  await expect(installCuda(place)).resolves.toBeDefined()
})

test('an aborted download leaves no wheel and no link', async () => {
  const controller = new AbortController()
  const onProgress = () => controller.abort(new Error('enough'))
  const place = scene({ signal: controller.signal, onProgress })
  await expect(installCuda(place)).rejects.toThrow('enough')
  expect([readdirSync(place.into), readdirSync(place.runtime)]).toEqual([['omniquant-cuda.json'], []])
})

test('a disk that is too small is found out before the download', async () => {
  const place = scene({ wheels: [{ ...WHEELS[0]!, unpackedBytes: 1e18 }] })
  await expect(installCuda(place)).rejects.toMatchObject({
    code: 'E_OUTPUT',
    message: expect.stringMatching(/free, and/) as string,
  })
  expect([asked, existsSync(join(place.runtime, CUDA))]).toEqual([[], false])
})

test('pip’s variable names the index, XDG’s the place of data', () => {
  expect(packageIndex({})).toBe('https://pypi.org/simple')
  expect(packageIndex({ PIP_INDEX_URL: 'https://x/simple/' })).toBe('https://x/simple')
  expect(usualFolder('1.30.0', { XDG_DATA_HOME: '/data' })).toBe('/data/omniquant/cuda-for-onnxruntime-1.30.0')
})
