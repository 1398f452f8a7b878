import { describe, expect, test } from 'vitest'
import { endingOf, failureOf } from '../../src/cli/outcome.ts'
import { QuantError } from '../../src/errors.ts'

const text = { json: false, quiet: false }
const json = { json: true, quiet: false }
const quiet = { json: false, quiet: true }
const outcome = { document: { perplexity: 12 }, text: 'perplexity 12' }
const failure = new QuantError('E_LIMIT', 'above the limit')

describe('a command that ends well', () => {
  test.each([
    ['as text', text, 'perplexity 12\n'],
    ['as JSON', json, '{\n  "perplexity": 12\n}\n'],
    ['quietly', quiet, ''],
    ['as JSON, quietly', { json: true, quiet: true }, '{\n  "perplexity": 12\n}\n'],
  ])('%s', (_, manner, stdout) => {
    expect(endingOf(outcome, manner, false)).toEqual({ stdout, stderr: '', exitCode: 0 })
  })
})

test.each(['std::bad_alloc', 'Array buffer allocation failed'])('%s is no mistake of ours, but of memory', message => {
  const { stderr, exitCode } = failureOf(new RangeError(message), { json: false }, false)
  expect(stderr).toMatch(/^error: memory ran out while .*\nhint: A shorter --seq-len .* goes on from there\.\n$/)
  expect(exitCode).toBe(1)
})

test('too many open files are no mistake of ours, but of a limit', () => {
  const { stderr, exitCode } = failureOf(new Error("EMFILE: too many open files, open 'x'"), { json: false }, false)
  expect(stderr).toMatch(/^error: there are too many open files: EMFILE.*\nhint: .*ulimit -n.*\n$/)
  expect(exitCode).toBe(1)
})

describe('a command with a result that failed', () => {
  test.each([
    ['as text', text, 'perplexity 12\n'],
    ['quietly', quiet, ''],
  ])('%s', (_, manner, stdout) => {
    const ending = { stdout, stderr: 'error: above the limit\n', exitCode: 1 }
    expect(endingOf({ ...outcome, failure }, manner, false)).toEqual(ending)
  })

  test('as JSON: the result and the error in one document', () => {
    const { stdout, stderr, exitCode } = endingOf({ ...outcome, failure }, json, false)
    expect(JSON.parse(stdout)).toEqual({ perplexity: 12, error: { code: 'E_LIMIT', message: 'above the limit' } })
    expect([stderr, exitCode]).toEqual(['error: above the limit\n', 1])
  })
})

describe('what was thrown', () => {
  const hinted = new QuantError('E_NOT_ONNX', 'x is a zip archive', 'Unpack it.')

  test('is one message with the way out', () => {
    expect(failureOf(hinted, text, false)).toEqual({
      stdout: '',
      stderr: 'error: x is a zip archive\nhint: Unpack it.\n',
      exitCode: 1,
    })
  })

  test('is a document too when documents are asked for', () => {
    const { stdout, stderr } = failureOf(hinted, json, false)
    expect(JSON.parse(stdout)).toEqual({
      error: { code: 'E_NOT_ONNX', message: 'x is a zip archive', hint: 'Unpack it.' },
    })
    expect(stderr).toBe('error: x is a zip archive\nhint: Unpack it.\n')
  })

  test.each([
    ['E_USAGE', 2],
    ['E_SCHEME', 2],
    ['E_INTERRUPTED', 130],
    ['E_OUTPUT', 1],
    ['E_INTERNAL', 1],
  ] as const)('%s exits with %i', (code, exitCode) => {
    expect(failureOf(new QuantError(code, 'what'), text, false).exitCode).toBe(exitCode)
  })

  test('is reported as a mistake of ours when nobody meant it, with the stack only for those who ask', () => {
    const mistake = new TypeError('x is not a function')
    const ending = failureOf(mistake, text, false)
    expect(ending.exitCode).toBe(1)
    expect(ending.stderr).toMatch(/^error: unexpected: x is not a function\nhint: .*please report.*\n$/)
    expect(failureOf(mistake, text, true).stderr).toContain('outcome.test.ts')
    expect(failureOf('thrown words', text, true).stderr).toContain('error: unexpected: thrown words\n')
    expect(JSON.parse(failureOf(mistake, json, false).stdout)).toMatchObject({ error: { code: 'E_INTERNAL' } })
  })
})
