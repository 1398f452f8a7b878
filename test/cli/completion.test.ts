/** @file Completion scripts: bash runs its own and answers; zsh and fish read theirs where they are present. */

import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { completionScript, SHELLS } from '../../src/cli/completion.ts'
import { longFlag } from '../../src/cli/flag-row.ts'
import { QUANTIZE_FLAGS } from '../../src/cli/quantize-flags.ts'
import { parseCommandLine } from '../../src/cli/main.ts'
import { TARGET_NAMES } from '../../src/quant/terms/targets.ts'
import { tempDir } from '../helpers/temp-dir.ts'
import { unless } from '../helpers/unless.ts'

const folder = tempDir()
mkdirSync(join(folder, 'my models'))
for (const name of ['text one.txt', 'model.onnx']) writeFileSync(join(folder, name), '')

const scriptOf = (shell: string): string => (parseCommandLine(['completion', shell]) as { text: string }).text

/** Reason for which a shell cannot be run. */
const lacks = (shell: string): string | undefined =>
  spawnSync(shell, ['-c', 'true']).status === 0 ? undefined : `there is no ${shell}`

function run(shell: string, program: string): string {
  const { status, stdout, stderr } = spawnSync(shell, ['-c', program], { cwd: folder, encoding: 'utf8' })
  expect([status, stderr]).toEqual([0, ''])
  return stdout
}

/** Offers of bash behind these words; the last one is being typed. */
function offered(...words: string[]): string[] {
  const list = words.map(word => `'${word}'`).join(' ')
  const program = `${scriptOf('bash')}\nCOMP_WORDS=(${list}); COMP_CWORD=${words.length - 1}; _omniquant; printf '%s\\n' "\${COMPREPLY[@]}"`
  return run('bash', program).split('\n').filter(Boolean)
}

describe('bash', unless(lacks('bash')), () => {
  test('commands', () => {
    expect(offered('omniquant', '')).toEqual(
      expect.arrayContaining(['quantize', 'inspect', 'evaluate', 'generate', 'doctor', 'completion', '--help']),
    )
    expect(offered('omniquant', 'qu')).toEqual(['quantize'])
    expect(offered('omniquant', 'completion', '')).toEqual(SHELLS)
  })

  test('options: every row of the table, and schemes', () => {
    const flags = offered('omniquant', 'quantize', 'm', '-')
    expect(flags).toEqual(expect.arrayContaining([...QUANTIZE_FLAGS.map(longFlag), '-o', '--w4a16', '--help']))
    expect(offered('omniquant', 'evaluate', '--aga')).toEqual(['--against'])
    expect(offered('omniquant', 'doctor', '')).toEqual([])
  })

  test('values, also behind =', () => {
    expect(offered('omniquant', 'quantize', 'm', '--target', '')).toEqual(TARGET_NAMES)
    expect(offered('omniquant', 'quantize', '--target', '=', 'we')).toEqual(['web', 'webgpu'])
    expect(offered('omniquant', 'quantize', '--preset', '=')).toEqual(['fast', 'default', 'best', 'paper'])
    expect(offered('omniquant', 'evaluate', 'm', '--device', 'cu')).toEqual(['cuda'])
    expect(offered('omniquant', 'quantize', 'm', '--samples', '')).toEqual([])
  })

  test('files, with spaces too', () => {
    expect(offered('omniquant', 'quantize', '--calib', 't')).toEqual(['text one.txt'])
    expect(offered('omniquant', 'quantize', 'm')).toEqual(expect.arrayContaining(['model.onnx', 'my models']))
    expect(offered('omniquant', 'quantize', 'm', '-o', 'my')).toEqual(['my models'])
  })
})

describe('zsh', unless(lacks('zsh')), () => {
  test('reads the script', () => {
    writeFileSync(join(folder, 'script.zsh'), scriptOf('zsh'))
    expect(run('zsh', 'zsh -n script.zsh && print read')).toBe('read\n')
  })
})

describe('fish', unless(lacks('fish')), () => {
  test('completes commands and values', () => {
    writeFileSync(join(folder, 'script.fish'), scriptOf('fish'))
    const complete = (line: string) => run('fish', `source script.fish; complete -C '${line}'`)
    expect(complete('omniquant qu')).toBe('quantize\tquantize a model\n')
    expect(complete('omniquant quantize --target webg')).toMatch(/^webgpu\t/)
    expect(complete('omniquant quantize --calib te')).toMatch(/^text one.txt\n/)
  })
})

test.each(SHELLS)('%s: a help text with quotes and brackets stays one word', shell => {
  const row = { flags: '--odd <file>', key: 'odd', help: "it's [odd]: $(false) `false`" }
  const script = completionScript(shell, [{ name: 'try', summary: "it's", rows: [row], takesFiles: true, words: [] }])
  expect(script).toContain('--odd'.slice(shell === 'fish' ? 2 : 0))
  if (lacks(shell) !== undefined) return
  const file = join(folder, 'odd')
  writeFileSync(file, script)
  expect(spawnSync(shell, ['-n', file], { encoding: 'utf8' })).toMatchObject({ status: 0, stderr: '' })
})
