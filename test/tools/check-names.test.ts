import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { testFolder } from '../helpers/test-folder.ts'

const TOOL = resolve(import.meta.dirname, '../../tools/check-names.js')

function check(files: Readonly<Record<string, string>>) {
  const folder = testFolder()
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), text)
  }
  const { stderr, status } = spawnSync(process.execPath, [TOOL, folder], { encoding: 'utf8' })
  return { lines: stderr.split('\n').filter(line => line.includes(' names ') && !line.includes('lead')), status }
}

const SOURCES = {
  'src/quant/find/linears.ts': '/** @file Linears. */\n',
  'src/quant/plan.ts': "/** @file Plans, of find/linears.ts. */\nexport const text = 'see gone.ts'\n",
  'docs/limits.md': 'Limits.\n',
}

test('names that lead somewhere, and names that are not ours', () => {
  const { lines, status } = check({
    ...SOURCES,
    'README.md': [
      'See docs/limits.md, `src/quant/plan.ts`, quant/find/, find/linears.ts, linears.ts, docs/*.md, dist/quant/plan.js.',
      'model.onnx, config.json, ../shared/README.md, SHARED/golden/results.md, out/made.js, node_modules/x/y.js,',
      'transformers.js, https://example.org/builder.py, /tmp/script.py, and/or, weights.safetensors.',
    ].join('\n'),
  })
  expect(lines).toEqual([])
  expect(status).toBe(0)
})

test('names that lead nowhere are told with file and line; code is not looked at', () => {
  const { lines, status } = check({
    ...SOURCES,
    'src/quant/run.ts':
      '/**\n * @file Runs plan.ts.\n * After blocks.ts.\n */\nconst a = 1 // quant/learn/ does it\nexport { a }\n',
    'docs/limits.md': 'One line.\nIn `src/quant/find/blocks.ts` and docs/speed.md, src/graph/*.ts.\n',
    'bench/measure.py': '# as bench/measure.js\nprint("gone.js")\n',
  })
  expect(lines).toEqual([
    'bench/measure.py:1 names bench/measure.js, which is not there',
    'docs/limits.md:2 names src/quant/find/blocks.ts, which is not there',
    'docs/limits.md:2 names docs/speed.md, which is not there',
    'docs/limits.md:2 names src/graph/*.ts, which is not there',
    'src/quant/run.ts:3 names blocks.ts, which is not there',
    'src/quant/run.ts:5 names quant/learn, which is not there',
  ])
  expect(status).toBe(1)
})
