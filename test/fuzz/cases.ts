/**
 * @file One case of the fuzzer: files made from a seed and a number, and the calls that read them. The same seed and number give
 * the same case.
 */

import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { calibrationSamples, loadTokens } from '../../src/calibration/dataset.ts'
import { describeIo } from '../../src/decoder/model-io.ts'
import { Random } from '../../src/calibration/rng.ts'
import { loadTokenizer } from '../../src/calibration/tokenizer.ts'
import { readOverrides } from '../../src/cli/overrides-file.ts'
import { QuantError, type ErrorCode } from '../../src/errors.ts'
import { loadModel } from '../../src/graph/onnx-file/load.ts'
import { onnx } from '../../src/graph/onnx-file/onnx-proto.ts'
import { inspectModel } from '../../src/quant/inspect.ts'
import { readParameterFile, writeParameterFile } from '../helpers/parameter-files.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { modelBytes } from '../helpers/onnx-files.ts'
import { writeNpy } from '../helpers/write-npy.ts'
import { mutateJson } from './mutate-json.ts'
import { mutateModel } from './mutate-model.ts'
import { rescaleWeights } from './rescale-weights.ts'
import { mutateBytes, mutateRecords } from './mutate-wire.ts'
import { sourceModels } from './source-models.ts'

/** Outcome of a case: 'accepted', or the code of its refusal. */
export type Outcome = 'accepted' | ErrorCode

export interface Case {
  /** Damaged part: "model/primitive", "tokenizer/bpe". */
  readonly kind: string
  /** Reads the files as the program does. @throws QuantError when they are refused; any other error is a defect. */
  readonly run: () => Promise<void>
}

const pick = <T>(random: Random, list: readonly T[]): T => list[random.int(list.length)]!

const FIXTURE = resolve(import.meta.dirname, '../../fixtures/tiny-llama')
const TEXT = 'The old house, 1984 — "quite" small; naïve Ünïcode 漢字 <s> and\n\n\ttabs.'

const MODELS = [...sourceModels()].map(([name, { proto, files }]) => ({ name, bytes: modelBytes(proto), files }))

const UNIGRAM = JSON.stringify({
  version: '1.0',
  added_tokens: [
    { id: 0, content: '<unk>', special: true },
    { id: 1, content: '<s>', special: true },
  ],
  normalizer: {
    type: 'Sequence',
    normalizers: [{ type: 'NFKC' }, { type: 'Replace', pattern: { Regex: ' {2,}' }, content: ' ' }],
  },
  pre_tokenizer: { type: 'Metaspace', replacement: '▁', add_prefix_space: true },
  post_processor: null,
  decoder: { type: 'Metaspace', replacement: '▁', add_prefix_space: true },
  model: {
    type: 'Unigram',
    unk_id: 0,
    vocab: [
      ['<unk>', 0],
      ['<s>', 0],
      ...'▁aehilmnoqstu'.split('').map((letter, i) => [letter, -3 - i]),
      ['▁the', -2],
      ['house', -4],
    ],
  },
})
const WORD_PIECE = JSON.stringify({
  version: '1.0',
  added_tokens: [{ id: 0, content: '[UNK]', special: true }],
  normalizer: { type: 'BertNormalizer', clean_text: true, handle_chinese_chars: true, lowercase: true },
  pre_tokenizer: {
    type: 'Sequence',
    pretokenizers: [{ type: 'BertPreTokenizer' }, { type: 'Split', pattern: { Regex: '\\d' }, behavior: 'Isolated' }],
  },
  decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
  model: {
    type: 'WordPiece',
    unk_token: '[UNK]',
    continuing_subword_prefix: '##',
    max_input_chars_per_word: 100,
    vocab: Object.fromEntries(
      ['[UNK]', 'the', 'old', 'house', '##s', ',', '1', '9', 'q'].map((token, i) => [token, i]),
    ),
  },
})
const TOKENIZERS = new Map([
  ['bpe', readFileSync(join(FIXTURE, 'tokenizer.json'), 'utf8')],
  ['unigram', UNIGRAM],
  ['wordpiece', WORD_PIECE],
])
const GENAI_CONFIG = JSON.stringify({
  model: {
    bos_token_id: 1,
    eos_token_id: [2, 3],
    context_length: 64,
    vocab_size: 32,
    type: 'llama',
    decoder: {
      filename: 'model.onnx',
      head_size: 16,
      hidden_size: 32,
      num_attention_heads: 2,
      sliding_window: { window_size: 8 },
      inputs: {
        input_ids: 'input_ids',
        attention_mask: 'attention_mask',
        past_key_names: 'past_key_values.%d.key',
        past_value_names: 'past_key_values.%d.value',
      },
      outputs: { logits: 'logits', present_key_names: 'present.%d.key', present_value_names: 'present.%d.value' },
    },
  },
})
const JSONL = ['{"text": "one line"}', '"another"', '{"text": "a third one"}'].join('\n')
const JSONL_IDS = ['{"input_ids": [1, 2, 3, 4, 5, 6, 7, 8]}', '[1, 2, 3, 4, 5, 6, 7, 8]'].join('\n')
const OVERRIDES = '{"down_proj": "w8g64", "layers.0.*": "w8", "*": "w4"}'

/** Rounds to nearest: quantization of a file without learning. */
async function quantize(random: Random, model: string, output: string): Promise<void> {
  await quantizeModel({
    check: false,
    model,
    output,
    scheme: parseScheme(pick(random, ['w4a16g32', 'w8a8', 'w3a16', 'w4a4'])),
    lwc: false,
    let: false,
    samples: 1,
    seqLen: 12,

    seed: 0,
    accuracyLevel: 0,
    threads: 1,
    epochs: 1,
    learningRate: 5e-3,
    schedule: 'constant',
    lmHead: random.int(2) === 0 ? 8 : undefined,
    embedding: random.int(2) === 0 ? 4 : undefined,
  })
}

async function runModel(random: Random, folder: string): Promise<void> {
  const path = join(folder, 'model.onnx')
  describeIo(loadModel(path))
  const { problem } = await inspectModel({ model: path, seqLen: 12 })
  if (problem) throw new QuantError(problem.code as ErrorCode, problem.message, problem.hint)
  if (random.int(8) !== 0) return
  const output = join(folder, 'out')
  await quantize(random, path, output)
  rmSync(output, { recursive: true })
}

/** Writes a damaged model and the files beside it into `folder`. @returns a description of the damage. */
function writeModel(random: Random, folder: string): string {
  const { name, bytes, files } = pick(random, MODELS)
  let damaged: Uint8Array
  const how = random.int(10)
  if (how < 6) {
    const proto = onnx.ModelProto.decode(bytes)
    mutateModel(random, proto)
    damaged = modelBytes(proto)
  } else damaged = how < 9 ? mutateRecords(random, bytes) : mutateBytes(random, bytes)
  writeFileSync(join(folder, 'model.onnx'), damaged)
  for (const [file, content] of files)
    writeFileSync(join(folder, file), random.int(40) === 0 ? mutateBytes(random, content) : content)
  return name
}

function modelCase(random: Random, folder: string): Case {
  const name = writeModel(random, folder)
  return { kind: `model/${name}`, run: () => runModel(random, folder) }
}

function configCase(random: Random, folder: string): Case {
  const { name, bytes, files } = pick(random, MODELS)
  writeFileSync(join(folder, 'model.onnx'), bytes)
  for (const [file, content] of files) writeFileSync(join(folder, file), content)
  const file = pick(random, ['genai_config.json', 'config.json', 'generation_config.json'])
  const text = file === 'genai_config.json' ? GENAI_CONFIG : readFileSync(join(FIXTURE, 'config.json'), 'utf8')
  writeFileSync(join(folder, file), mutateJson(random, text))
  return { kind: `config/${name}`, run: () => runModel(random, folder) }
}

function tokenizerCase(random: Random, folder: string): Case {
  const [name, text] = pick(random, [...TOKENIZERS])
  writeFileSync(join(folder, 'tokenizer.json'), mutateJson(random, text))
  if (random.int(3) === 0)
    writeFileSync(
      join(folder, 'tokenizer_config.json'),
      mutateJson(random, readFileSync(join(FIXTURE, 'tokenizer_config.json'), 'utf8')),
    )
  const run = async () => {
    const tokenizer = loadTokenizer(folder)
    tokenizer.decode(tokenizer.encode(TEXT, { bos: true }))
  }
  return { kind: `tokenizer/${name}`, run }
}

function tokensCase(random: Random, folder: string): Case {
  const samples = (path: string) => {
    const source = loadTokens(path, () => loadTokenizer(FIXTURE))
    calibrationSamples(source, { samples: 2, seqLen: 4, seed: 1, vocabSize: 320 })
  }
  if (random.int(2) === 0) {
    const path = join(folder, 'calib.jsonl')
    const lines = pick(random, [JSONL, JSONL_IDS]).split('\n')
    const i = random.int(lines.length)
    lines[i] = Buffer.from(mutateJson(random, lines[i]!)).toString('utf8')
    const bytes = Buffer.from(lines.join(pick(random, ['\n', '\r\n', '\n\n', ' '])))
    writeFileSync(path, random.int(4) === 0 ? mutateBytes(random, bytes) : bytes)
    return { kind: 'tokens/jsonl', run: async () => samples(path) }
  }
  const path = join(folder, 'calib.npy')
  writeNpy(path, { dtype: 'int64', dims: [4, 8], data: BigInt64Array.from({ length: 32 }, (_, i) => BigInt(i)) })
  let bytes: Uint8Array = readFileSync(path)
  if (random.int(2) === 0) {
    const lies: readonly [RegExp, string[]][] = [
      [
        /\(4, 8\)/,
        [
          '(4, -8)',
          '(0, 8)',
          '(99999999999, 99999999999)',
          '()',
          '(32,)',
          '(4, 8, 1)',
          `(${'1, '.repeat(40)})`,
          '(1e9, 2)',
        ],
      ],
      [/<i8/, ['<u8', '>i8', '|u1', '|O', '<f4', '<i4', 'x'.repeat(300)]],
      [/False/, ['True', 'Maybe']],
    ]
    const [pattern, texts] = pick(random, lies)
    bytes = Buffer.from(Buffer.from(bytes).toString('latin1').replace(pattern, pick(random, texts)), 'latin1')
  } else bytes = mutateBytes(random, bytes)
  writeFileSync(path, bytes)
  return { kind: 'tokens/npy', run: async () => samples(path) }
}

function parametersCase(random: Random, folder: string): Case {
  const path = join(folder, 'learned.safetensors')
  const tensors = new Map(['a', 'b', 'c'].map((name, i) => [name, { shape: [i, 4], data: new Float32Array(4 * i) }]))
  writeParameterFile(path, { metadata: { scheme: 'w4a16', blocks: '1' }, tensors })
  const bytes = readFileSync(path)
  const end = 8 + Number(bytes.readBigUInt64LE())
  let damaged: Uint8Array = mutateBytes(random, bytes)
  if (random.int(2) === 0) {
    const header = mutateJson(random, bytes.toString('utf8', 8, end))
    const length = Buffer.alloc(8)
    length.writeBigUInt64LE(random.int(8) === 0 ? 2n ** 63n : BigInt(header.length))
    damaged = Buffer.concat([length, header, bytes.subarray(end)])
  }
  writeFileSync(path, damaged)
  return { kind: 'parameters', run: async () => void readParameterFile(path) }
}

function overridesCase(random: Random, folder: string): Case {
  const path = join(folder, 'overrides.json')
  writeFileSync(path, mutateJson(random, OVERRIDES))
  return { kind: 'overrides', run: async () => void readOverrides(path) }
}

/**
 * Writes model `number` of `seed` into `folder`, which is emptied first. Models are damaged as in cases; every third one has
 * weights of unusual size instead. @returns a description.
 */
export function makeModel(seed: number, number: number, folder: string): string {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder)
  const random = new Random(seed, number)
  if (number % 3 > 0) return writeModel(random, folder)
  const { name, bytes } = pick(
    random,
    MODELS.filter(({ files }) => files.size === 0),
  )
  const proto = onnx.ModelProto.decode(bytes)
  rescaleWeights(random, proto)
  writeFileSync(join(folder, 'model.onnx'), modelBytes(proto))
  return name
}

/** Case `number` of `seed`. Its files are written to `folder`, which is emptied first. */
export function makeCase(seed: number, number: number, folder: string): Case {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder)
  const random = new Random(seed, number)
  const dice = random.int(20)
  if (dice < 13) return modelCase(random, folder)
  if (dice < 14) return configCase(random, folder)
  if (dice < 16) return tokenizerCase(random, folder)
  if (dice < 18) return tokensCase(random, folder)
  return dice < 19 ? parametersCase(random, folder) : overridesCase(random, folder)
}
