/**
 * @file The package as a user gets it: packed, installed into an empty folder, run there. Where the registry cannot be reached, its
 * dependencies are links to ours; the name of the group says so. Builds come before (pretest).
 */

import { spawn } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join, resolve } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { tempDir } from './helpers/temp-dir.ts'

const ROOT = resolve(import.meta.dirname, '..')
const folder = tempDir()
const home = join(folder, 'home')
const installed = join(home, 'node_modules/omniquant')
const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
  readonly version: string
  readonly dependencies: Readonly<Record<string, string>>
}

/** The environment without what `npm test` sets for its own package. Registry and cache stay. */
const env = {
  ...Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) => !/^npm_(?!config_(registry|cache|userconfig)$)|^NODE_OPTIONS$/i.test(name),
    ),
  ),
  ONNXRUNTIME_NODE_INSTALL: 'skip',
}

interface Ran {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs a command of npm to its end. */
function run(cwd: string, command: 'npm' | 'npx', ...args: string[]): Promise<Ran> {
  const child = spawn(command, args, {
    cwd,
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
    shell: process.platform === 'win32',
  })
  let [stdout, stderr] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  return new Promise((done, fail) => {
    child.on('error', fail)
    child.on('close', code => done({ code, stdout, stderr }))
  })
}

/** Errors of npm where a registry is not reached, or gives no more than what is pinned. */
const UNREACHED =
  /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EIDLETIMEOUT|ENOTCACHED|ERR_SOCKET_TIMEOUT/

/** Unpacks the tarball, and links to our dependencies. */
async function link(tarball: string): Promise<void> {
  const modules = join(home, 'node_modules')
  rmSync(modules, { recursive: true, force: true })
  mkdirSync(join(modules, '.bin'), { recursive: true })
  const unpack = spawn('tar', ['-xzf', tarball, '-C', modules], { stdio: 'inherit' })
  expect(await new Promise(done => unpack.on('close', done))).toBe(0)
  renameSync(join(modules, 'package'), installed)
  for (const name of readdirSync(join(ROOT, 'node_modules')))
    if (!name.startsWith('.')) symlinkSync(join(ROOT, 'node_modules', name), join(modules, name))
  symlinkSync('../omniquant/bin/omniquant.js', join(modules, '.bin/omniquant'))
}

/** Packs without scripts: a build would change dist/ under the tests that run beside. */
const packed = await run(ROOT, 'npm', 'pack', '--ignore-scripts', '--json', '--pack-destination', folder)
const [{ filename, files }] = JSON.parse(packed.stdout) as [
  { readonly filename: string; readonly files: readonly { readonly path: string }[] },
]
mkdirSync(home)
writeFileSync(join(home, 'package.json'), '{ "private": true }')
const tarball = join(folder, filename)
const install = ['--prefer-offline', '--no-audit', '--no-fund', '--fetch-retries=0', '--fetch-timeout=60000', tarball]
const { code, stderr: said } = await run(home, 'npm', 'install', ...install)
const isLinked = code !== 0 && UNREACHED.test(said)
if (isLinked) await link(tarball)

test('the tarball holds the built files, the bundled model and what README links to, and no tests', () => {
  const names = files.map(({ path }) => path)
  const linked = [...readFileSync(join(ROOT, 'README.md'), 'utf8').matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)].map(
    ([, path]) => path!,
  )
  expect(linked.length).toBeGreaterThan(10)
  const wanted = ['bin/omniquant.js', 'dist/index.js', 'dist/index.d.ts', 'dist/cli/main.js', 'LICENSE', 'README.md']
  expect(names).toEqual(expect.arrayContaining([...wanted, 'fixtures/tiny-llama/model.onnx', ...linked]))
  expect(names.filter(name => /^(src|test|out|node_modules|fixtures\/generate)\/|\.test\./.test(name))).toEqual([])
})

describe(isLinked ? 'installed, with dependencies that are links to ours (no registry)' : 'installed by npm', () => {
  beforeAll(() => {
    if (!isLinked) expect([code, said.replace(/^npm warn .*\n?/gm, '')]).toEqual([0, ''])
  })

  test('its dependencies are there', () => {
    for (const name of Object.keys(manifest.dependencies))
      expect(existsSync(join(home, 'node_modules', name)), name).toBe(true)
  })

  test('npx omniquant --version', async () => {
    const { code, stdout } = await run(home, 'npx', 'omniquant', '--version')
    expect([code, stdout]).toEqual([0, `${manifest.version}\n`])
  })

  test('the headline command, on the bundled model', async () => {
    const few = ['--samples', '4', '--seq-len', '32', '--epochs', '1']
    const model = 'node_modules/omniquant/fixtures/tiny-llama/model.onnx'
    const { code, stdout, stderr } = await run(
      home,
      'npx',
      'omniquant',
      'quantize',
      model,
      '--w4a16',
      ...few,
      '-o',
      'q.onnx',
    )
    expect([code, stderr.replace(/^npm warn .*\n/gm, '')]).toEqual([0, expect.stringMatching(/^device: .*\nmodel: /)])
    expect(stdout).toMatch(/^scheme +w4a16\S* for cpu$/m)
    expect(existsSync(join(home, 'q.onnx'))).toBe(true)
  })

  test('the library', async () => {
    const program = `import { inspect } from 'omniquant'; console.log((await inspect({ model: '${installed}/fixtures/tiny-llama' })).blocks.length)`
    writeFileSync(join(home, 'program.mjs'), program)
    const child = spawn(process.execPath, ['program.mjs'], { cwd: home, env, stdio: ['ignore', 'pipe', 'inherit'] })
    let stdout = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
    expect([await new Promise(done => child.on('close', done)), stdout]).toEqual([0, '3\n'])
  })
})
