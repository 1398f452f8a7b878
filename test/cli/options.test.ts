import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { flagName } from '../../src/cli/flags.ts'
import { QUANTIZE_FLAGS } from '../../src/cli/quantize-flags.ts'
import { EVALUATE_FLAGS, GENERATE_FLAGS } from '../../src/cli/read-flags.ts'
import { parseCommandLine } from '../../src/cli/main.ts'
import { type QuantizeCommand, rewriteFlags } from '../../src/cli/options.ts'
import { QuantError } from '../../src/errors.ts'
import { keyName } from '../../src/option-mark.ts'
import { containerBits } from '../../src/kernels/pack/matmul-nbits.ts'
import { resolveOptions } from '../../src/quant/terms/resolve-options.ts'

const parse = (line: string): unknown => parseCommandLine(line === '' ? [] : line.split(' '))

/** Resolved options of `quantize m.onnx --w4a16`. */
const DEFAULTS = {
  model: 'm.onnx',
  output: undefined,
  target: 'cpu',
  scheme: { weights: { bits: 4, group: 32, symmetric: false } },
  lmHead: 4,
  embedding: 4,
  wherePossible: ['lmHead', 'embedding'],
  ignore: [],
  overrides: [],
  lwc: true,
  rounding: 'weighted-learned',
  roundingLearningRate: 0.004,
  range: 'mse',
  learnRanges: true,
  let: 'norm',
  keepCache: false,
  calib: undefined,
  samples: 128,
  seqLen: 512,
  epochs: 4,
  capSeqLen: true,
  seed: 0,
  learningRate: 0.05,
  letLearningRate: 0.025,
  learnGains: true,
  schedule: 'cosine',
  optimizer: 'adamw',
  alpha: 0.5,
  accuracyLevel: 4,
  format: 'integer',
  augLoss: false,
  lookahead: false,
  hiddenStates: 'float32',
  session: { threads: undefined, device: 'cpu' },
  maxWork: 3e14,
  maxRounded: 64 * 2 ** 20,
  float16: false,
  force: false,
  check: true,
  fresh: false,
}

/** Neither rounding nor gains are learned. */
const NEAREST = { rounding: 'nearest', learnGains: false }

const w4a8 = (symmetric = false) => ({
  scheme: { weights: { bits: 4, group: undefined, symmetric: false }, activations: { bits: 8, symmetric } },
  let: true,
  learnRanges: false,
})

const withStatic = (bits: number) => ({
  scheme: { weights: { bits: 8, group: undefined, symmetric: false }, activations: { kind: 'static', bits } },
  lmHead: 8,
  embedding: 8,
  let: true,
  ...NEAREST,
})

/** Group and outer bits of the CPU, by the width of the stored codes. */
const OF_CPU: Record<number, { group: number; outer: number }> = {
  2: { group: 64, outer: 4 },
  4: { group: 32, outer: 4 },
  8: { group: 128, outer: 8 },
}

const weights = (bits: number, given?: number | 'none', symmetric = false) => {
  const { group, outer } = OF_CPU[containerBits(bits)]!
  const asked = given === 'none' ? undefined : (given ?? group)
  return {
    scheme: { weights: { bits, group: asked, symmetric } },
    lmHead: outer,
    embedding: outer,
    ...(bits > 4 && NEAREST),
  }
}

describe('quantize', () => {
  test.each<[string, object]>([
    ['--w4a16', {}],
    ['--W4A16', {}],
    ['--w4a16 --w4a16', {}],
    ['--scheme w4a16', {}],
    ['--w3a16', weights(3)],
    ['--w2a16', weights(2)],
    ['--w8a16', weights(8)],
    ['--w5a16', weights(5)],
    ['--w4a16g64', weights(4, 64)],
    ['--w4a16 --group 32', weights(4, 32)],
    ['--w4a16 --per-channel', weights(4, 'none')],
    ['--w4a16 --symmetric', weights(4, 32, true)],
    ['--wbits 6', weights(6)],
    ['--wbits 6 --abits 16 --group 16', weights(6, 16)],
    ['--w4a16 -o out', { output: 'out' }],
    ['--w4a16 --output out.onnx', { output: 'out.onnx' }],
    ['--w4a16 --calib c.txt', { calib: 'c.txt' }],
    [
      '--w4a16 --preset fast',
      {
        samples: 32,
        seqLen: 256,
        epochs: 4,
        learningRate: 0.1,
        letLearningRate: 0.05,
        roundingLearningRate: 0.008,
        maxWork: undefined,
      },
    ],
    ['--w4a16 --preset default', {}],
    [
      '--w4a16 --preset best --no-lookahead',
      {
        epochs: 8,
        learningRate: 0.03,
        letLearningRate: 0.015,
        maxWork: undefined,
        maxRounded: undefined,
      },
    ],
    [
      '--w4a16 --preset best',
      {
        epochs: 8,
        learningRate: 0.03,
        letLearningRate: 0.015,
        maxWork: undefined,
        maxRounded: undefined,
        lookahead: true,
      },
    ],
    [
      '--w4a8 --preset best',
      {
        ...w4a8(),
        epochs: 8,
        learningRate: 0.03,
        letLearningRate: 0.015,
        maxWork: undefined,
        maxRounded: undefined,
        lookahead: true,
      },
    ],
    ['--w4a16 --lookahead', { lookahead: true }],
    ['--w4a16 --no-learn-gains', { learnGains: false }],
    ['--w4a16 --no-lwc --learn-gains', { lwc: false, let: false, learnRanges: false, rounding: 'nearest' }],
    ['--w4a16 --rounding nearest', { rounding: 'nearest', maxRounded: undefined }],
    [
      '--w4a16 --preset paper',
      {
        seqLen: 2048,
        epochs: 20,
        learningRate: 0.01,
        letLearningRate: 0.005,
        schedule: 'constant',
        ...NEAREST,
        maxWork: undefined,
        maxRounded: undefined,
      },
    ],
    [
      '--w4a16 --preset paper --samples 8 --epochs 2',
      {
        samples: 8,
        seqLen: 2048,
        epochs: 2,
        learningRate: 0.01,
        letLearningRate: 0.005,
        schedule: 'constant',
        ...NEAREST,
        maxWork: undefined,
        maxRounded: undefined,
      },
    ],
    ['--epochs 2 --w4a16', { epochs: 2, maxWork: undefined }],
    ['--samples 9 --w4a16', { samples: 9, maxWork: undefined }],
    [
      '--w4a16 --preset paper --lr 1e-3 --schedule cosine',
      {
        seqLen: 2048,
        epochs: 20,
        learningRate: 0.001,
        letLearningRate: 0.0005,
        ...NEAREST,
        maxWork: undefined,
        maxRounded: undefined,
      },
    ],
    ['--w4a16 --seq-len 64', { seqLen: 64, capSeqLen: false }],
    ['--w4a16 --seq-len=64', { seqLen: 64, capSeqLen: false }],
    ['--w4a16 --lr 5e-3 --seed 7', { learningRate: 0.005, letLearningRate: 0.0025, seed: 7 }],
    ['--w4a16 --schedule constant', { schedule: 'constant' }],
    ['--w4a16 --no-lwc', { lwc: false, let: false, learnRanges: false, ...NEAREST }],
    [
      '--w4a16 --no-lwc --rounding gptq',
      { lwc: false, learnRanges: false, learnGains: false, let: false, rounding: 'gptq', maxRounded: undefined },
    ],
    [
      '--w4a16 --rounding learned --rounding-lr 1e-3',
      { rounding: 'learned', roundingLearningRate: 0.001, maxRounded: undefined },
    ],
    ['--w8a8 --static-activations', withStatic(8)],
    [
      '--w8a16 --static-activations --range minmax',
      { ...withStatic(16), format: 'qdq', accuracyLevel: 0, range: 'minmax' },
    ],
    ['--w8a16 --static-activations --format portable', { ...withStatic(16), format: 'portable' }],
    ['--w8a8 --static-activations --no-learn-ranges', { ...withStatic(8), learnRanges: false }],
    ['--w8a8 --static-activations --no-lwc --learn-ranges', { ...withStatic(8), lwc: false }],
    ['--w4a8', w4a8()],
    ['--wbits 4 --abits 8 --symmetric-activations', w4a8(true)],
    ['--w4a16 --let --let-lr 1e-3', { let: true, letLearningRate: 0.001 }],
    ['--w4a8 --let affine', { ...w4a8(), let: 'affine', learnRanges: true }],
    ['--w4a8 --let=affine --no-learn-ranges', { ...w4a8(), let: 'affine' }],
    ['--w4a8 --let --learn-ranges', { ...w4a8(), learnRanges: true }],
    ['--w4a8 --let affine --no-lwc', { ...w4a8(), let: 'affine', lwc: false, ...NEAREST }],
    ['--w4a8 --no-let', { ...w4a8(), let: false }],
    ['--w4a8 --keep-cache', { ...w4a8(), keepCache: true }],
    [
      '--w4a8 --alpha 0.75 --aug-loss --epochs 0',
      { ...w4a8(), alpha: 0.75, augLoss: true, epochs: 0, maxWork: undefined },
    ],
    ['--w4a8 --format portable', { ...w4a8(), format: 'portable' }],
    ['--w4a16 --format qdq', { format: 'qdq', accuracyLevel: 0, let: false }],
    ['--w4a16 --optimizer stable-spam', { optimizer: 'stable-spam' }],
    ['--w4a16 --hidden-states float16', { hiddenStates: 'float16' }],
    ['--w4a16 --save-params p.safetensors', { saveParams: 'p.safetensors' }],
    ['--w4a16 --params p.safetensors', { params: 'p.safetensors' }],
    ['--w4a16 --ignore o_proj --ignore layers.0.*', { ignore: ['o_proj', 'layers.0.*'] }],
    [
      '--w4a16 --override q_proj:w8 --override a:b:w3g64sym',
      {
        overrides: [
          { pattern: 'q_proj', bits: 8 },
          { pattern: 'a:b', bits: 3, group: 64, symmetric: true },
        ],
      },
    ],
    ['--w4a16 --lm-head 8 --embedding 4', { lmHead: 8, embedding: 4, wherePossible: [] }],
    ['--w4a16 --lm-head float --embedding float', { lmHead: undefined, embedding: undefined, wherePossible: [] }],
    ['--w4a16 --accuracy-level 4', {}],
    ['--w4a16 --let', { let: true }],
    ['--w4a16 --no-let', { let: false }],
    ['--w4a16 --accuracy-level 0', { accuracyLevel: 0, let: false }],
    ['--w4a16 --time-budget 1h30m', { timeBudgetMs: 5_400_000 }],
    ['--w4a16 --time-budget 2.5m', { timeBudgetMs: 150_000 }],
    ['--w4a16 --work-dir w --fresh', { workDir: 'w', fresh: true }],
    ['--w4a16 --threads 2', { session: { threads: 2, device: 'cpu' } }],
  ])('%s', (flags, expected) => {
    const { options, ...command } = parse(`quantize m.onnx ${flags}`) as QuantizeCommand
    expect(resolveOptions(options)).toEqual({ ...DEFAULTS, ...expected })
    const manner = { json: false, quiet: false, verbose: false, log: undefined }
    expect(command).toEqual({ command: 'quantize', overridesFile: undefined, ...manner })
  })

  test('--overrides names a file, which is read when the command runs', () => {
    expect(parse('quantize m.onnx --w4a16 --overrides o.json')).toMatchObject({ overridesFile: 'o.json' })
  })

  test('flags may come before the model', () => {
    expect(parse('quantize --w4a16 m.onnx')).toEqual(parse('quantize m.onnx --w4a16'))
  })

  test('--evaluate, --json and --quiet', () => {
    const asked = parse('quantize m.onnx --w4a16 --evaluate e.txt --json --quiet')
    expect(asked).toMatchObject({ options: { evaluate: 'e.txt' }, json: true, quiet: true })
  })

  test('--force, --no-check, --verbose and --log', () => {
    expect(parse('quantize m.onnx --w4a16 --force --no-check --verbose --log l.jsonl')).toMatchObject({
      options: { force: true, check: false },
      ...{ verbose: true, log: 'l.jsonl' },
    })
  })
})

test('inspect', () => {
  expect(parse('inspect m')).toEqual({
    command: 'inspect',
    options: { model: 'm', seqLen: undefined },
    json: false,
    quiet: false,
  })
  expect(parse('inspect m --seq-len 16 --json')).toMatchObject({ options: { seqLen: 16 }, json: true })
})

describe('evaluate', () => {
  const options = { model: 'm', text: 't.txt' }

  test.each<[string, object]>([
    ['m t.txt', {}],
    ['m --text t.txt', {}],
    ['m --text t.txt --against f', { options: { ...options, against: 'f' } }],
    ['m --text t.txt --seq-len 64 --windows 3', { options: { ...options, seqLen: 64, windows: 3 } }],
    ['m t.txt --threads 1 --stride 32', { options: { ...options, threads: 1, stride: 32 } }],
    ['m t.txt --tokenizer d', { options: { ...options, tokenizer: 'd' } }],
    ['m n.onnx o --text t.txt', { options: { ...options, others: ['n.onnx', 'o'] } }],
    ['m n ids.npy', { options: { ...options, others: ['n'], text: 'ids.npy' } }],
    ['m t.txt --max-perplexity 12.5', { limits: { maxPerplexity: 12.5 } }],
    [
      'm t.txt --against f --max-ratio 1.1 --max-kl 0 --min-agreement 0.9',
      { options: { ...options, against: 'f' }, limits: { maxRatio: 1.1, maxKl: 0, minAgreement: 0.9 } },
    ],
    ['m t.txt --json --quiet', { json: true, quiet: true }],
  ])('%s', (line, expected) => {
    expect(parse(`evaluate ${line}`)).toEqual({
      command: 'evaluate',
      options,
      limits: {},
      json: false,
      quiet: false,
      ...expected,
    })
  })
})

describe('generate', () => {
  test.each<[string, object]>([
    ['', {}],
    ['--max-tokens 8 --threads 1 --tokenizer d', { maxTokens: 8, threads: 1, tokenizer: 'd' }],
    ['--temperature 0.7 --top-k 40 --top-p 0.9 --seed 3', { temperature: 0.7, topK: 40, topP: 0.9, seed: 3 }],
    ['--top-k 40 --seed 3', { topK: 40, seed: 3 }],
    ['--compare f --device cpu --qdq-accuracy-level 0', { compare: 'f', device: 'cpu', qdqAccuracyLevel: 0 }],
  ])('m - %s', (flags, expected) => {
    expect(parse(`generate m - ${flags}`.trim())).toEqual({
      command: 'generate',
      options: { model: 'm', prompt: '-', ...expected },
      json: false,
      quiet: false,
    })
  })
})

const BITS_HINT =
  'Give a scheme such as --w4a16, --w3a16, --w2a16 or --w8a16 (--w4a16g64 for groups of 64), or --wbits N.'
const HELP_HINT = '`omniquant --help` shows what there is.'
const helpHint = (command: string) => `\`omniquant ${command} --help\` shows what there is.`

describe('what is refused', () => {
  test.each<[string, string, string, string | undefined]>([
    ['', 'E_USAGE', 'which command?', HELP_HINT],
    ['quantise m --w4a16', 'E_USAGE', "unknown command 'quantise'", 'Did you mean quantize?'],
    ['quantize', 'E_USAGE', "missing required argument 'model'", helpHint('quantize')],
    [
      'quantize a b --w4a16',
      'E_USAGE',
      "too many arguments for 'quantize'. Expected 1 argument but got 2.",
      helpHint('quantize'),
    ],
    ['quantize m --w4a16 --grup 3', 'E_USAGE', "unknown option '--grup'", 'Did you mean --group?'],
    [
      'quantize m --w4a16 --quiet --verbose',
      'E_USAGE',
      '--quiet and --verbose exclude each other',
      'Give one of them.',
    ],
    [
      'quantize m --w4a16g32 --group 64',
      'E_SCHEME',
      '--w4a16g32 and --group 64 contradict each other',
      'Give one of them.',
    ],
    [
      'quantize m --w4a16g32 --per-channel',
      'E_SCHEME',
      '--w4a16g32 and --per-channel contradict each other',
      'Give one of them.',
    ],
    ['quantize m --w4', 'E_USAGE', "unknown option '--w4'", helpHint('quantize')],
    ['quantize m --w4a16 --group', 'E_USAGE', "option '--group <n>' argument missing", helpHint('quantize')],
    ['quantize m', 'E_USAGE', 'how many bits shall the weights have?', BITS_HINT],
    ['quantize m --abits 16', 'E_USAGE', 'how many bits shall the weights have?', BITS_HINT],
    ['quantize m --w4a16 --w3a16', 'E_USAGE', '--w4a16 and --w3a16 exclude each other', 'Give one of them.'],
    ['quantize m --w4a16 --w4a16g64', 'E_USAGE', '--w4a16 and --w4a16g64 exclude each other', 'Give one of them.'],
    ['quantize m --w4a16 --wbits 4', 'E_USAGE', '--w4a16 already says how many bits', 'Leave out --wbits and --abits.'],
    ['quantize m --wbits four', 'E_USAGE', '--wbits takes a whole number from 1 up, not "four"', undefined],
    [
      'quantize m --w4a16 --time-budget soon',
      'E_USAGE',
      '--time-budget takes a time such as 2h, 90m or 1h30m, not "soon"',
      undefined,
    ],
    [
      'quantize m --w4a16 --time-budget 0m',
      'E_USAGE',
      '--time-budget takes a time such as 2h, 90m or 1h30m, not "0m"',
      undefined,
    ],
    [
      'quantize m --w4a16 --let affine',
      'E_USAGE',
      '--let affine is for quantized activations',
      'Say a scheme such as --w4a4 too, or leave it out.',
    ],
    ['quantize m --w4a4 --let=all-of-them', 'E_USAGE', '--let is true, false or affine, not "all-of-them"', undefined],
    ['quantize m --w4a16 --samples 0', 'E_USAGE', '--samples takes a whole number from 1 up, not "0"', undefined],
    ['quantize m --w4a16 --samples 1.5', 'E_USAGE', '--samples takes a whole number from 1 up, not "1.5"', undefined],
    ['quantize m --w4a16 --samples=-1', 'E_USAGE', '--samples takes a whole number from 1 up, not "-1"', undefined],
    ['quantize m --w4a16 --seq-len 1', 'E_USAGE', '--seq-len takes a whole number from 2 up, not "1"', undefined],
    ['quantize m --w4a16 --epochs 0x1', 'E_USAGE', '--epochs takes a whole number, not "0x1"', undefined],
    [
      'quantize m --w4a16 --seed 99999999999999999999',
      'E_USAGE',
      '--seed takes a whole number, not "99999999999999999999"',
      undefined,
    ],
    ['quantize m --w4a16 --schedule linear', 'E_USAGE', '--schedule is constant or cosine, not "linear"', undefined],
    ['quantize m --w4a16 --lr 0', 'E_USAGE', '--lr takes a number above 0, not "0"', undefined],
    ['quantize m --w4a16 --lr fast', 'E_USAGE', '--lr takes a number above 0, not "fast"', undefined],
    ['quantize m --w4a16 --lr Infinity', 'E_USAGE', '--lr takes a number above 0, not "Infinity"', undefined],
    [
      'quantize m --w4a16 --optimizer sgd',
      'E_USAGE',
      '--optimizer is adamw, stable-spam or sign-sgd, not "sgd"',
      undefined,
    ],
    [
      'quantize m --w4a16 --hidden-states bfloat16',
      'E_USAGE',
      '--hidden-states is float32 or float16, not "bfloat16"',
      undefined,
    ],
    ['quantize m --w4a16 --format tflite', 'E_USAGE', '--format is integer, portable or qdq, not "tflite"', undefined],
    [
      'quantize m --w8a8 --format qdq',
      'E_USAGE',
      '--format qdq cannot hold activations that are quantized per token',
      'Take --static-activations, --w8a16 or --w4a16, or --format portable.',
    ],
    [
      'quantize m --w4a16 --format qdq --accuracy-level 4',
      'E_USAGE',
      '--accuracy-level 4 is an attribute of MatMulNBits, which --format qdq does not write',
      'Leave it out: onnxruntime itself takes level 4 for such files, unless a session option says otherwise.',
    ],
    ['evaluate m t.txt --qdq-accuracy-level 1', 'E_USAGE', '--qdq-accuracy-level is 0 or 4, not "1"', undefined],
    ['quantize m --w4a16 --lm-head 3', 'E_USAGE', '--lm-head takes 2, 4 or 8 bits, or float, not "3"', undefined],
    ['quantize m --w4a16 --embedding 16', 'E_USAGE', '--embedding takes 2, 4 or 8 bits, or float, not "16"', undefined],
    [
      'quantize m --w4a16 --override q_proj',
      'E_USAGE',
      '--override takes PATTERN:wN, not "q_proj"',
      'For example --override down_proj:w8, or *_proj:w8g64sym.',
    ],
    [
      'quantize m --w4a16 --override q_proj:w16',
      'E_SCHEME',
      '16-bit weights cannot be made',
      'Weights can have 2 to 8 bits.',
    ],
    [
      'quantize m --w4a16 --override q_proj:8',
      'E_SCHEME',
      '"8" does not say how to quantize weights',
      'Write for example w8, w8g64 or w4g32sym; what shall stay float goes to --ignore.',
    ],
    ['quantize m --w4a16 --alpha 1.5', 'E_USAGE', '--alpha is between 0 and 1, not "1.5"', undefined],
    [
      'quantize m --w4a16 --params a --save-params b',
      'E_USAGE',
      '--params and --save-params exclude each other',
      'With --params nothing is learned that could be saved.',
    ],
    [
      'quantize m --w4a16 --preset slow',
      'E_USAGE',
      'there is no preset "slow"',
      'There are fast, default, best, paper.',
    ],
    [
      'quantize m --w4a16 --preset toString',
      'E_USAGE',
      'there is no preset "toString"',
      'There are fast, default, best, paper.',
    ],
    [
      'quantize m --w4a16 --accuracy-level 2',
      'E_USAGE',
      '--accuracy-level is 0 or 4, not "2"',
      '0 computes in float32; 4 lets onnxruntime round activations to 8 bits on the fly, which is faster. Learning does the same.',
    ],
    ['quantize m --w1a16', 'E_SCHEME', '1-bit weights cannot be made', 'Weights can have 2 to 8 bits.'],
    ['quantize m --wbits 9', 'E_SCHEME', '9-bit weights cannot be made', 'Weights can have 2 to 8 bits.'],
    [
      'quantize m --w4a16 --group 64 --per-channel',
      'E_SCHEME',
      '--group and --per-channel exclude each other',
      'Give one of them.',
    ],
    ['quantize m --scheme four', 'E_SCHEME', '"four" is not a scheme', 'Write for example w4a16, w3a16 or w2a16g64.'],
    ['inspect m --target cpu --w4a', 'E_USAGE', "unknown option '--w4a'", helpHint('inspect')],
    [
      'evaluate m',
      'E_USAGE',
      'what shall the model be evaluated on?',
      'Give a file: --text FILE (.txt, .md, .jsonl, or token ids as .npy).',
    ],
    ['evaluate m a.txt --text b.txt', 'E_USAGE', 'two texts are given: a.txt and --text b.txt', 'Give one of them.'],
    ['evaluate m t.txt --stride 0', 'E_USAGE', '--stride takes a whole number from 1 up, not "0"', undefined],
    ['evaluate m t.txt --max-kl 0.1', 'E_USAGE', '--max-kl is for a comparison', 'Give --against MODEL too.'],
    [
      'evaluate m t.txt --against f --min-agreement 99',
      'E_USAGE',
      '--min-agreement is between 0 and 1, not "99"',
      undefined,
    ],
    ['generate m', 'E_USAGE', "missing required argument 'prompt'", helpHint('generate')],
    [
      'generate m p --temperature 0 --top-k 3',
      'E_USAGE',
      '--top-k has no effect where the likeliest token is taken each time',
      'Give --temperature 1 too, or leave it out.',
    ],
    [
      'generate m p --seed 3',
      'E_USAGE',
      '--seed has no effect where the likeliest token is taken each time',
      'Give --temperature 1 too, or leave it out.',
    ],
    ['generate m p --top-p 1.5', 'E_USAGE', '--top-p is above 0 and at most 1, not "1.5"', undefined],
    ['generate m p --max-tokens 0', 'E_USAGE', '--max-tokens takes a whole number from 1 up, not "0"', undefined],
    ['evaluate m t.txt --max-perplexity -1', 'E_USAGE', '--max-perplexity takes a number above 0, not "-1"', undefined],
    ['evaluate m t.txt --windows 0', 'E_USAGE', '--windows takes a whole number from 1 up, not "0"', undefined],
  ])('%s', (line, code, message, hint) => {
    let thrown: unknown
    try {
      parse(line)
    } catch (error) {
      thrown = error
    }
    expect(thrown).toBeInstanceOf(QuantError)
    const error = thrown as QuantError
    expect({ code: error.code, ...error.words(flagName) }).toEqual({ code, message, hint })
  })

  test.each(['--w4a3', '--wbits 4 --abits 9'])('%s: no such activations', flags => {
    expect(() => parse(`quantize m ${flags}`)).toThrow(expect.objectContaining({ code: 'E_SCHEME' }))
  })

  test('--group 100 names the sizes that can be stored', () => {
    expect(() => parse('quantize m --w4a16 --group 100')).toThrow(expect.objectContaining({ code: 'E_SCHEME' }))
  })
})

describe('names of options', () => {
  test('every mark in the sources is an option of the command line', () => {
    const src = resolve(import.meta.dirname, '../../src')
    const keys = readdirSync(src, { recursive: true, encoding: 'utf8' })
      .filter(name => name.endsWith('.ts'))
      .flatMap(name => [...readFileSync(join(src, name), 'utf8').matchAll(/\boption\('(\w+)'/g)])
      .map(match => match[1]!)
    const known = new Set<string>([...QUANTIZE_FLAGS, ...EVALUATE_FLAGS, ...GENERATE_FLAGS].map(({ key }) => key))
    expect(keys.length).toBeGreaterThan(10)
    expect(keys.filter(key => !known.has(key))).toEqual([])
  })

  test.each([
    ['samples', '4', '--samples 4', '`samples: 4`'],
    ['output', undefined, '-o', '`output`'],
    ['scheme', 'w4a16', '--w4a16', '`scheme: w4a16`'],
    ['fresh', 'true', '--fresh', '`fresh: true`'],
    ['let', 'false', '--no-let', '`let: false`'],
    ['let', 'affine', '--let affine', '`let: affine`'],
  ])('%s: %s', (key, value, flag, name) => {
    expect([flagName(key, value), keyName(key, value)]).toEqual([flag, name])
  })
})

test('a model behind --let is not its value', () => {
  for (const text of ['--let m.onnx', 'm.onnx --let', '--let affine m.onnx', 'm.onnx --let affine'])
    expect(parse(`quantize --w4a4 ${text}`)).toMatchObject({
      options: { model: 'm.onnx', let: text.includes('affine') ? 'affine' : true },
    })
  expect(rewriteFlags(['quantize', '--', '--let', 'affine'])).toEqual(['quantize', '--', '--let', 'affine'])
})

describe('scheme flags', () => {
  test('become --scheme, wherever they stand', () => {
    expect(rewriteFlags(['quantize', '--w4a16', 'm', '--W10A8G64'])).toEqual([
      ...['quantize', '--scheme', 'w4a16'],
      ...['m', '--scheme', 'W10A8G64'],
    ])
  })

  test('are files after a --', () => {
    expect(rewriteFlags(['inspect', '--', '--w4a16'])).toEqual(['inspect', '--', '--w4a16'])
    expect(parse('inspect -- --w4a16')).toMatchObject({ options: { model: '--w4a16' } })
  })

  test.each(['--w4a16x', '-w4a16', '--w4', 'w4a16', '--w4a16=1'])('%s is none', flag => {
    expect(rewriteFlags([flag])).toEqual([flag])
  })
})

describe('texts', () => {
  test('--version is the one of package.json', async () => {
    const { default: manifest } = await import('../../package.json', { with: { type: 'json' } })
    expect(parse('--version')).toEqual({ command: 'print', text: `${manifest.version}\n` })
  })

  test('--help names the commands and gives examples', () => {
    const { text } = parse('--help') as { text: string }
    for (const words of ['quantize [options] [model]', 'inspect', 'evaluate', 'generate', 'Examples:', 'Exit codes'])
      expect(text).toContain(words)
  })

  test('quantize --help shows what the presets are', () => {
    const { text } = parse('quantize --help') as { text: string }
    expect(text.replace(/\s+/g, ' ')).toContain(
      'fast (32 x 256 tokens, 4 epochs), default (128 x 512, 4; less for large models), best (128 x 512, 8) or paper (128 x 2048, 20)',
    )
  })
})
