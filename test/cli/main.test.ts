import { copyFileSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { loadModel } from '../../src/graph/onnx-file/load.ts'
import { openModel } from '../../src/kernels/session.ts'
import type { EvaluateReport } from '../../src/quant/evaluate.ts'
import type { InspectReport } from '../../src/quant/inspected.ts'
import type { QuantizeReport } from '../../src/quant/terms/report.ts'
import { floatInitializer, linearModel, modelBytes, tensorType } from '../helpers/onnx-files.ts'
import { runCli } from '../helpers/run-cli.ts'
import { tempDir } from '../helpers/temp-dir.ts'

const llama = resolve(import.meta.dirname, '../../fixtures/tiny-llama')
const calib = join(llama, 'calib.txt')
const text = join(llama, 'eval.txt')
const llamaFiles = readdirSync(llama).sort()
const LITTLE = ['--group', '32', '--samples', '4', '--seq-len', '32', '--epochs', '2', '--threads', '1']

const folder = tempDir()
let count = 0
const fresh = (): string => {
  const path = join(folder, String(count++))
  mkdirSync(path)
  return path
}
const parsed = <T>(stdout: string): T => JSON.parse(stdout) as T

/** A model that was quantized by the command line; several tests look at it from several sides. */
const quantizedFolder = join(folder, 'quantized')
let first: Awaited<ReturnType<typeof runCli>>
const quantizeArguments = (out: string) => [
  'quantize',
  llama,
  '--w4a16',
  ...LITTLE,
  '--calib',
  calib,
  '-o',
  out,
  '--json',
]
beforeAll(async () => {
  first = await runCli(...quantizeArguments(quantizedFolder), '--evaluate', text)
})

describe('quantize', () => {
  test('writes a folder that loads where the original did', async () => {
    expect([first.exitCode, first.stderr]).toEqual([0, ''])
    const companions = ['config.json', 'model.onnx', 'tokenizer.json', 'tokenizer_config.json']
    expect(readdirSync(quantizedFolder)).toEqual(expect.arrayContaining(companions))
    expect(readdirSync(quantizedFolder).filter(name => name.startsWith('.'))).toEqual([])
    const session = await openModel(join(quantizedFolder, 'model.onnx'))
    expect(session.inputs.map(({ name }) => name)).toContain('input_ids')
    await session.release()
  })

  test('--json is one document with what happened', () => {
    const report = parsed<QuantizeReport & { evaluation: EvaluateReport }>(first.stdout)
    expect(report).toMatchObject({
      model: join(llama, 'model.onnx'),
      output: join(quantizedFolder, 'model.onnx'),
      scheme: 'w4a16g32',
      sizeBefore: statSync(join(llama, 'model.onnx')).size,
      sizeAfter: statSync(join(quantizedFolder, 'model.onnx')).size,
    })
    expect(report.blocks.map(block => block.linears.length)).toEqual([7, 7, 7])
    for (const { roundedLoss, learnedLoss, kept } of report.blocks)
      expect(kept).toBe(learnedLoss! < roundedLoss! ? 'learned' : 'rounded')
    expect(report.evaluation.against!.model).toBe(report.model)
    expect(report.evaluation.model).toBe(report.output)
    expect(report.evaluation.ratio).toBeGreaterThan(0.98)
    expect(report.evaluation.ratio).toBeLessThan(1.2)
  })

  test('the same command writes the same bytes', async () => {
    const out = fresh()
    const { exitCode } = await runCli(...quantizeArguments(out))
    expect(exitCode).toBe(0)
    const [a, b] = [quantizedFolder, out].map(path => readFileSync(join(path, 'model.onnx')))
    expect(a!.equals(b!)).toBe(true)
  })

  test('shortens the sequences of a preset to the positions of the model, and says so on stdout', async () => {
    const out = join(fresh(), 'q.onnx')
    const flags = ['--samples', '2', '--epochs', '1', '--calib', calib, '-o', out]
    const { stdout, stderr, exitCode } = await runCli('quantize', llama, '--w8a16', '--per-channel', ...flags)
    expect([exitCode, stderr]).toEqual([0, ''])
    expect(stdout).toContain('note: sequences are 256 tokens long: the model has no more positions\n')
    expect(stdout).toMatch(/^scheme +w8a16 for cpu$/m)
    expect(stdout).toMatch(/^ +2 +7 +\d\.\d\de[-+]\d+ /m)
  })

  test('--no-lwc needs no text; --quiet says nothing; the size is what inspect foretold', async () => {
    const out = fresh()
    const model = join(llama, 'model.onnx')
    const ended = await runCli('quantize', model, '--wbits', '3', '--no-lwc', '--quiet', '-o', out)
    expect(ended).toEqual({ stdout: '', stderr: '', exitCode: 0 })
    const { estimates } = parsed<InspectReport>((await runCli('inspect', model, '--json')).stdout)
    const foretold = estimates.find(({ scheme }) => scheme === 'w3a16g32')!.sizeBytes
    const { size } = statSync(join(out, 'model.onnx'))
    // Names and nodes are not counted.
    expect(Math.abs(size - foretold)).toBeLessThan(8000)
  })
})

test('more threads than cores are as many as cores, and one note says so', async () => {
  const short = join(fresh(), 'short.txt')
  writeFileSync(short, readFileSync(text).subarray(0, 2000))
  const flags = ['--no-lwc', '--group', '32', '--threads', '1000000', '--evaluate', short, '-o', fresh()]
  const { stdout, stderr, exitCode } = await runCli('quantize', llama, '--w4a16', ...flags)
  expect([exitCode, stderr]).toEqual([0, ''])
  expect(stdout.match(/^note: 1000000 threads were asked for, \d+ are used: there are no more cores$/gm)?.length).toBe(
    1,
  )
  const evaluated = await runCli('evaluate', llama, short, '--threads', '1000000')
  expect(evaluated.stdout).toMatch(/\n\nnote: 1000000 threads were asked for/)
})

describe('exceptions', () => {
  const rounded = ['--w4a16', '--group', '32', '--no-lwc']

  test('some weights stay float, some have other bits, lm_head and the embedding are quantized too', async () => {
    const out = fresh()
    const file = join(fresh(), 'overrides.json')
    writeFileSync(file, JSON.stringify({ down_proj: 'w8', 'layers.1': 'w2' }))
    const { stdout, stderr, exitCode } = await runCli(
      ...['quantize', llama, ...rounded, '--ignore', 'layers.0.*', '--ignore', 'o_proj', '--overrides', file],
      ...['--override', 'layers.1.*.v_proj:w8g16', '--lm-head', '8', '--embedding', '8', '-o', out, '--json'],
      // At level 0 notes would say that these bits are slow.
      ...['--accuracy-level', '4'],
    )
    expect([exitCode, stderr]).toEqual([0, ''])
    const report = parsed<QuantizeReport>(stdout)
    expect(report.blocks.map(({ linears }) => linears.length)).toEqual([0, 6, 6])
    expect(report.outer.map(({ role, name, bits }) => [role, name, bits])).toEqual([
      ['lm_head', 'lm_head', 8],
      ['embedding', 'embed_tokens', 8],
    ])
    expect(report.skipped.length).toBe(9)
    expect(report.notes).toEqual(['5 weights are w2g32', '1 weight is w8g16', '1 weight is w8g32'])
    const { graph } = loadModel(join(out, 'model.onnx'))
    const count = (opType: string) => graph.nodes.filter(node => node.opType === opType).length
    expect([count('MatMulNBits'), count('GatherBlockQuantized')]).toEqual([13, 1])
    const bits = (name: string) => graph.nodes.find(node => node.name.includes(name))!.int('bits', 4)
    expect(['layers.1/self_attn/q_proj', 'layers.1/self_attn/v_proj', 'layers.2/mlp/down_proj'].map(bits)).toEqual([
      2, 8, 8,
    ])
  })

  test.each<[string, string[], number, RegExp]>([
    [
      'a pattern that matches nothing',
      ['--ignore', 'down_prj'],
      2,
      /no linear matches "down_prj"\nhint: Closest: layers\.0\.mlp\.down_proj,/,
    ],
    ['overrides that are not there', ['--overrides', 'nowhere.json'], 1, /cannot read the overrides in nowhere\.json/],
    ['overrides of no kind', ['--overrides', calib], 2, /calib\.txt is not JSON: .*\nhint: It should look like/],
    [
      'what a file sets',
      ['--overrides', join(llama, 'config.json')],
      2,
      /config\.json: what "\w+" is set to is not a text/,
    ],
  ])('%s: refused', async (_, flags, code, message) => {
    const out = fresh()
    const { stdout, stderr, exitCode } = await runCli('quantize', llama, ...rounded, ...flags, '-o', out)
    expect([exitCode, stdout]).toEqual([code, ''])
    expect(stderr).toMatch(message)
    expect(readdirSync(out)).toEqual([])
  })
})

describe('--target', () => {
  test('fills in what is not said, names the onnxruntime it needs, and notes what an option loses', async () => {
    const flags = ['--target', 'cpu', '--accuracy-level', '0', '--lm-head', 'float', '--w2a16', '--no-lwc']
    const { stdout, stderr, exitCode } = await runCli('quantize', llama, ...flags, '-o', fresh())
    expect([exitCode, stderr]).toEqual([0, ''])
    expect(stdout).toMatch(/^scheme +w2a16g64 for cpu$/m)
    expect(stdout).toMatch(/^needs +onnxruntime 1\.24 or later \(MatMulNBits of 2 bits\)$/m)
    expect(stdout).toMatch(/^embedding: embed_tokens, 64 x 320, 4 bits in groups of 32$/m)
    expect(stdout).toMatch(/^note: the linears of the blocks .* one token takes about 20 times as long/m)
    expect(stdout).toMatch(/^note: lm_head stays float: .* \(--lm-head 4\)$/m)
  })

  test('inspect shows the kernel of every weight', async () => {
    const { stdout, exitCode } = await runCli('inspect', llama, '--target', 'webgpu', '--w8a16')
    expect(exitCode).toBe(0)
    expect(stdout).toMatch(/^kernels on webgpu, with w8a16g32sym, needs onnxruntime 1\.23 or later/m)
    expect(stdout).toMatch(
      /^ +layers\.\{0\.\.2\}\.mlp\.down_proj +160 x 64 +MatMulNBits, 8 bits, blocks of 32, level 4 +wide tiles /m,
    )
    const json = await runCli('inspect', quantizedFolder, '--target', 'cpu', '--json')
    const { kernels } = parsed<InspectReport>(json.stdout)
    // lm_head and the embedding too.
    expect(kernels!.products).toHaveLength(21 + 2)
    expect(kernels!.products[1]).toMatchObject({ bits: 4, level: 4, kernel: 'int8 activations' })
  })
})

describe('inspect', () => {
  test('names the linears that quantize quantizes', async () => {
    const { stdout, stderr, exitCode } = await runCli('inspect', llama, '--json')
    expect([exitCode, stderr]).toEqual([0, ''])
    const report = parsed<InspectReport>(stdout)
    expect(report.blocks.map(block => block.linears.map(({ name }) => name))).toEqual(
      parsed<QuantizeReport>(first.stdout).blocks.map(block => block.linears),
    )
    expect(report).toMatchObject({ vocabSize: 320, maxPositions: 256 })
    expect(report.problem).toBeUndefined()
  })

  test('shows a table', async () => {
    const { stdout } = await runCli('inspect', llama)
    expect(stdout).toMatch(/^ +0-2 {2}layers\.\{0\.\.2\}\.\S+ +64 x 64 {2}float32$/m)
    expect(stdout).toMatch(/^ +embedding +embed_tokens +64 x 320 +float32 +82 kB$/m)
    expect(stdout).toMatch(/^ +lm_head +lm_head +64 x 320 +float32 +82 kB$/m)
    expect(stdout).toMatch(/^inputs +input_ids +int64 +\[/m)
    expect(stdout).toMatch(/^ +w4a16g32 +\d+ kB +\d+ %$/m)
  })

  test('names in a file steer no terminal, and make up no lines', async () => {
    const name = 'x\u001b]0;title\u0007\u009b2J\u202e\nerror: all is lost'
    const model = linearModel()
    model.graph!.node![0]!.input = [name, 'w']
    model.graph!.input![0]!.name = name
    model.producerName = 'a\u001b[2J\u0085b'
    const path = join(fresh(), 'steering.onnx')
    writeFileSync(path, modelBytes(model))
    const [text, json] = [await runCli('inspect', path), await runCli('inspect', path, '--json')]
    expect([text.exitCode, json.exitCode]).toEqual([0, 0])
    for (const { stdout, stderr } of [text, json])
      expect(stdout + stderr).not.toMatch(/(?!\n)[\p{Cc}\p{Bidi_Control}]/u)
    expect(text.stdout).toMatch(/^inputs +x\\u001b\]0;title\\u0007\\u009b2J\\u202e\\u000aerror: all is lost +float32/m)
    expect(parsed<InspectReport>(json.stdout)).toMatchObject({ inputs: [{ name }], producer: 'a\u001b[2J\u0085b' })
  })

  test('describes a model that cannot be quantized, and says why', async () => {
    const { stdout, exitCode } = await runCli('inspect', quantizedFolder, '--json')
    const { blocks, parameters, problem } = parsed<InspectReport>(stdout)
    expect([exitCode, blocks, problem?.code]).toEqual([0, [], 'E_ALREADY_QUANTIZED'])
    expect(parameters).toBeGreaterThan(64)
  })
})

describe('evaluate', () => {
  const windows = ['--text', text, '--seq-len', '64', '--windows', '4']

  test('--against measures both on the same tokens', async () => {
    const { stdout, stderr, exitCode } = await runCli(
      'evaluate',
      quantizedFolder,
      ...windows,
      '--against',
      llama,
      '--json',
    )
    expect([exitCode, stderr]).toEqual([0, ''])
    const report = parsed<EvaluateReport>(stdout)
    expect(report).toMatchObject({ seqLen: 64, windows: 4, tokens: 4 * 63, text })
    expect(report.ratio).toBeCloseTo(report.perplexity / report.against!.perplexity, 12)
    expect(report.sizeBytes).toBeLessThan(report.against!.sizeBytes)
  })

  test('a limit that is kept', async () => {
    const { stdout, stderr, exitCode } = await runCli('evaluate', llama, ...windows, '--max-perplexity', '320')
    expect([exitCode, stderr]).toEqual([0, ''])
    expect(stdout).toContain(`4 windows of 64 tokens of ${text}\n`)
  })

  test('a limit that is passed: the result, the message, exit code 1', async () => {
    const { stdout, stderr, exitCode } = await runCli('evaluate', llama, ...windows, '--max-perplexity', '1', '--json')
    expect(exitCode).toBe(1)
    expect(stderr).toMatch(/^error: the perplexity of \S+ is \d+\.\d{3}, above the limit of 1\n$/)
    expect(parsed<EvaluateReport & { error: object }>(stdout)).toMatchObject({ windows: 4, error: { code: 'E_LIMIT' } })
  })
})

/** Files that cannot be quantized, each in a folder of its own. */
const BAD: Record<string, () => string> = {
  'not an ONNX file': () => {
    const path = join(fresh(), 'model.onnx')
    writeFileSync(path, 'Once upon a time there was a model.')
    return path
  },
  'half a file': () => {
    const path = join(fresh(), 'model.onnx')
    const bytes = readFileSync(join(llama, 'model.onnx'))
    writeFileSync(path, bytes.subarray(0, bytes.length / 2))
    return path
  },
  'weights that are not there': () => {
    const path = join(fresh(), 'model.onnx')
    const model = linearModel()
    const weight = model.graph!.initializer![0]!
    delete weight.rawData
    weight.dataLocation = 1
    weight.externalData = [{ key: 'location', value: 'model.onnx.data' }]
    writeFileSync(path, modelBytes(model))
    return path
  },
  'a quantized model': () => quantizedFolder,
  'a model without attention': () => {
    const path = join(fresh(), 'model.onnx')
    const float = 1
    const int64 = 7
    writeFileSync(
      path,
      modelBytes({
        irVersion: 10,
        graph: {
          name: 'perceptron',
          node: [
            { opType: 'Gather', input: ['table', 'input_ids'], output: ['x'], name: 'embed' },
            { opType: 'MatMul', input: ['x', 'w1'], output: ['h'], name: 'up' },
            { opType: 'Relu', input: ['h'], output: ['r'], name: 'act' },
            { opType: 'MatMul', input: ['r', 'w2'], output: ['logits'], name: 'down' },
          ],
          input: [{ name: 'input_ids', type: tensorType(int64, ['batch', 'sequence']) }],
          output: [{ name: 'logits', type: tensorType(float, ['batch', 'sequence', 48]) }],
          initializer: [
            floatInitializer('table', [48, 32]),
            floatInitializer('w1', [32, 64]),
            floatInitializer('w2', [64, 48]),
          ],
        },
        opsetImport: [{ domain: '', version: 21 }],
      }),
    )
    return path
  },
  'a model without a tokenizer': () => {
    const path = join(fresh(), 'model.onnx')
    copyFileSync(join(llama, 'model.onnx'), path)
    return path
  },
  'a model that is there': () => llama,
  'no model at all': () => join(folder, 'nowhere', 'model.onnx'),
}

describe('bad input ends with one message and leaves nothing behind', () => {
  test.each<[string, string[], string, RegExp]>([
    ['not an ONNX file', [], 'E_NOT_ONNX', /model\.onnx is not a readable ONNX file/],
    ['half a file', [], 'E_TRUNCATED', /model\.onnx/],
    ['weights that are not there', [], 'E_EXTERNAL_DATA', /"w".*model\.onnx\.data/],
    [
      'a quantized model',
      [],
      'E_ALREADY_QUANTIZED',
      /already quantized: node "\S+" is com\.microsoft\.GatherBlockQuantized/,
    ],
    ['a model without attention', [], 'E_NO_BLOCKS', /no decoder blocks found/],
    ['a model without a tokenizer', [], 'E_TOKENIZER', /no tokenizer\.json in/],
    ['a model that is there', ['--seq-len', '257'], 'E_SEQ_LEN', /257 tokens .* 256 positions/],
    ['a model that is there', ['--calib', 'nowhere.txt'], 'E_FILE_NOT_FOUND', /nowhere\.txt/],
    ['a model that is there', ['--samples', '4', '--evaluate', 'nowhere.txt'], 'E_FILE_NOT_FOUND', /nowhere\.txt/],
    ['no model at all', [], 'E_FILE_NOT_FOUND', /nowhere.model\.onnx is not there/],
  ])('%s %j', async (name, flags, code, message) => {
    const model = BAD[name]!()
    const out = fresh()
    const path = join(out, 'q.onnx')
    const { stdout, stderr, exitCode } = await runCli(
      ...['quantize', model, '--w4a16', ...LITTLE, '--calib', calib, ...flags, '-o', path, '--json'],
    )
    expect(exitCode).toBe(1)
    expect(stderr).toMatch(/^error: [^\n]+\n(hint: [^\n]+\n)?$/)
    expect(stderr).toMatch(message)
    expect(parsed<{ error: { code: string } }>(stdout).error.code).toBe(code)
    expect(readdirSync(out)).toEqual([])
    expect(readdirSync(llama).sort()).toEqual(llamaFiles)
  })

  test('the output that would be the model', async () => {
    const model = BAD['a model without a tokenizer']!()
    const before = readFileSync(model)
    const { stderr, exitCode } = await runCli('quantize', model, '--w4a16', '--no-lwc', '-o', model)
    expect([exitCode, stderr]).toEqual([1, expect.stringContaining('would overwrite the model')])
    expect(readFileSync(model).equals(before)).toBe(true)
  })

  test('wrong usage exits with 2 and says nothing on stdout', async () => {
    expect(await runCli('quantize', llama, '--w4a16', '--grup', '32')).toEqual({
      stdout: '',
      stderr: "error: unknown option '--grup'\nhint: Did you mean --group?\n",
      exitCode: 2,
    })
    expect((await runCli('quantize', llama, '--w1a16')).exitCode).toBe(2)
  })
})

test('--version and --help', async () => {
  const { version } = parsed<{ version: string }>(readFileSync(resolve(llama, '../../package.json'), 'utf8'))
  expect(await runCli('--version')).toEqual({ stdout: `${version}\n`, stderr: '', exitCode: 0 })
  const help = await runCli('--help')
  expect([help.stderr, help.exitCode]).toEqual(['', 0])
  expect(help.stdout).toContain('omniquant quantize model.onnx --w4a16')
})
