/** @file `--report`: checked before the run, complete after it, and never the reason that a result is lost. */

import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parseCommandLine } from '../../src/cli/main.ts'
import { withReport } from '../../src/cli/report-file.ts'
import { QuantError } from '../../src/errors.ts'
import { quantizeReport } from '../helpers/sample-reports.ts'
import { runCli } from '../helpers/run-cli.ts'
import { tempDir } from '../helpers/temp-dir.ts'

const folder = tempDir()
const FIXTURE = resolve(import.meta.dirname, '../../fixtures/tiny-llama')

/** Writes the page of a report; also the lines that were said. */
async function written(path: string, prepare = () => {}) {
  const notes: string[] = []
  let ran = false
  const outcome = await withReport(path, { note: line => void notes.push(line) }, () => {
    ran = true
    prepare()
    return Promise.resolve({ document: quantizeReport(), text: 'done' })
  }).catch((error: unknown) => error as QuantError)
  return { outcome, notes, ran }
}

test.each(['quantize m.onnx --w4a16', 'evaluate m.onnx --text t.txt'])('%s takes a page', line => {
  expect(parseCommandLine(`${line} --report out/r.html`.split(' '))).toMatchObject({ report: 'out/r.html' })
  expect(() => parseCommandLine(`${line} --report r.pdf`.split(' '))).toThrow(
    '--report writes a page, and "r.pdf" does not end in .html',
  )
})

describe('the file', () => {
  test('is complete, and replaces the one before', async () => {
    const path = join(folder, 'r.html')
    writeFileSync(path, 'old')
    const { notes } = await written(path)
    expect(notes).toEqual([`report: ${path}`])
    expect(readFileSync(path, 'utf8')).toMatch(/^<!doctype html>[^]*<\/html>\n$/)
    expect(readdirSync(folder).filter(name => name.includes('r.html'))).toEqual(['r.html'])
  })

  test('may lie in a folder that the run makes', async () => {
    const path = join(folder, 'new', 'deep', 'r.html')
    await written(path, () => mkdirSync(join(folder, 'new')))
    expect(existsSync(path)).toBe(true)
  })

  test.each([
    ['a folder', () => mkdirSync(join(folder, 'f.html')), 'f.html'],
    ['in a file', () => writeFileSync(join(folder, 'plain'), ''), 'plain/r.html'],
  ])('that is %s is refused before the run', async (_, prepare, name) => {
    prepare()
    const { outcome, ran } = await written(join(folder, name))
    expect(ran).toBe(false)
    expect(outcome).toBeInstanceOf(QuantError)
    expect(outcome).toMatchObject({ code: 'E_OUTPUT' })
  })

  test('that cannot be written in the end fails the command, and the result is told all the same', async () => {
    const path = join(folder, 'later.html')
    const { outcome, notes } = await written(path, () => mkdirSync(path))
    expect(outcome).toMatchObject({ text: 'done', failure: { code: 'E_OUTPUT' } })
    expect(notes).toEqual([])
  })
})

test('quantize writes the page of its run', async () => {
  const page = join(folder, 'q.html')
  const output = join(folder, 'model.onnx')
  const calib = join(FIXTURE, 'calib.txt')
  const small = ['--w2a16g32', '--samples', '2', '--seq-len', '16', '--epochs', '2', '--threads', '1']
  const { stderr, exitCode } = await runCli(
    'quantize',
    FIXTURE,
    ...small,
    '--calib',
    calib,
    '-o',
    output,
    '--report',
    page,
  )
  expect(stderr).toContain(`report: ${page}`)
  expect(exitCode).toBe(0)
  const text = readFileSync(page, 'utf8')
  expect(text).toContain('<h2 id="learning">')
  expect(text).toContain('<h2 id="linears">')
  expect(text.replace(/<[^>]*>/g, '')).toContain(`omniquant quantize ${FIXTURE} --w2a16g32 --samples 2`)
})
