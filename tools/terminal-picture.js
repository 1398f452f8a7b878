#!/usr/bin/env node
/**
 * @file Draws docs/terminal.svg: a command on the bundled model and what it really prints. Needs dist/; takes as long as the command.
 *
 *     node tools/terminal-picture.js [OUT.svg]
 *
 * The command runs in a new folder. Only the path of that folder is left out of the output. Colours follow the reader's setting.
 */

import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

const ROOT = resolve(import.meta.dirname, '..')
const ARGS = ['quantize', 'my-llama', '--w4a16', '--calib', 'calib.txt', '--evaluate', 'eval.txt', '-o', 'my-llama-w4']
const MODEL_FILES = ['model.onnx', 'tokenizer.json', 'tokenizer_config.json', 'config.json']

const FONT = 14
const WIDTH = 8.43 // of a character of 14 px in the fonts below
const LINE = 20
const MARGIN = 20

/** Text of the command on stdout. */
function run() {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'picture-')))
  const fixture = join(ROOT, 'fixtures/tiny-llama')
  mkdirSync(join(folder, 'my-llama'))
  for (const name of MODEL_FILES) copyFileSync(join(fixture, name), join(folder, 'my-llama', name))
  for (const name of ['calib.txt', 'eval.txt']) copyFileSync(join(fixture, name), join(folder, name))
  const options = { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] }
  const { status, stdout } = spawnSync(process.execPath, [join(ROOT, 'bin/omniquant.js'), ...ARGS], options)
  rmSync(folder, { recursive: true })
  if (status !== 0) throw new Error(`the command ended with ${status}`)
  return stdout.replaceAll(`${folder}/`, '')
}

const escaped = text => text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;')

/** Parts of a line that are worth a colour. */
const coloured = line =>
  escaped(line)
    .replace(/-\d+\.\d+ %/g, '<tspan class="good">$&</tspan>')
    .replace(/^note:/, '<tspan class="dim">$&</tspan>')

function draw(text) {
  const lines = text.trimEnd().split('\n')
  const columns = Math.max(...lines.map(line => line.length))
  const [width, height] = [Math.ceil(columns * WIDTH) + 2 * MARGIN, (lines.length + 1) * LINE + 2 * MARGIN]
  const rows = lines.map((line, i) => {
    const y = MARGIN + (i + 1.5) * LINE
    return `<text x="${MARGIN}" y="${y}" class="${i === 0 ? 'command' : 'line'}">${coloured(line)}</text>`
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">
<title>A terminal in which omniquant quantizes the bundled model</title>
<desc>${escaped(text.trimEnd())}</desc>
<style>
rect { fill: #f6f8fa; stroke: #d0d7de }
text { font: ${FONT}px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; white-space: pre; fill: #1f2328 }
.command { font-weight: bold }
.good { fill: #1a7f37 }
.dim { fill: #59636e }
@media (prefers-color-scheme: dark) {
  rect { fill: #0d1117; stroke: #3d444d }
  text { fill: #f0f6fc }
  .good { fill: #3fb950 }
  .dim { fill: #9198a1 }
}
</style>
<rect x="0.5" y="0.5" width="${width - 1}" height="${height - 1}" rx="8"/>
${rows.join('\n')}
</svg>
`
}

writeFileSync(
  resolve(process.argv[2] ?? join(ROOT, 'docs/terminal.svg')),
  draw(`$ omniquant ${ARGS.join(' ')}\n${run()}`),
)
