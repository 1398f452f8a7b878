/** @file File names of transformers.js: how it asks for a model of some precision. Knows names only, no disk. */

/** A request to transformers.js for a file of the folder `onnx/`. */
export interface HubName {
  /** File name, "model_q4.onnx". */
  readonly file: string
  /** The `dtype` to ask for, "q4". */
  readonly dtype: string
  /** The name without suffix, "model": transformers.js looks for `<stem><suffix of the dtype>.onnx`. */
  readonly stem: string
  /** True where the stem is the one that transformers.js asks for by itself; others are given as `model_file_name`. */
  readonly isUsual: boolean
}

/**
 * Suffixes of dtypes: DEFAULT_DTYPE_SUFFIX_MAPPING of @huggingface/transformers 4.3.1 (read 2026-11-21; 3.8.1
 * lacks q1 and q2).
 */
export const DTYPE_SUFFIXES: Readonly<Record<string, string>> = {
  fp32: '',
  fp16: '_fp16',
  int8: '_int8',
  uint8: '_uint8',
  q8: '_quantized',
  q4: '_q4',
  q2: '_q2',
  q1: '_q1',
  q4f16: '_q4f16',
  q2f16: '_q2f16',
  q1f16: '_q1f16',
  bnb4: '_bnb4',
}

/**
 * Bits of weights and activations -> dtype where the rest is float32, and where it is float16. q8 is what browsers ask for without
 * WebGPU, and w8a8 is what is fast there. For 8-bit weights alone int8 is free.
 */
const DTYPES: Readonly<Record<string, readonly [float32: string, float16: string]>> = {
  w2a16: ['q2', 'q2f16'],
  w4a16: ['q4', 'q4f16'],
  w8a16: ['int8', 'int8'],
  w8a8: ['q8', 'q8'],
}

/** The file that a decoder is read from by default: the session "model" of transformers.js' MODEL_SESSION_CONFIG. */
const USUAL_STEM = 'model'

/** Parts of a name that say how its numbers are stored, and not which model it is. */
const STORED = /_(fp16|fp32)$/

/** "model_fp16.onnx" -> "model": the name by which transformers.js knows a model of any dtype. */
export const stemOf = (file: string): string => file.replace(/\.onnx$/, '').replace(STORED, '')

/** A file that has no dtype of its own is asked for by its whole name, with the dtype that adds nothing to it. */
const wholeName = (stem: string): HubName => ({
  file: `${stem}.onnx`,
  dtype: 'fp32',
  stem,
  isUsual: stem === USUAL_STEM,
})

/**
 * The name for a scheme. What transformers.js has no dtype for gets the scheme as a part of its name.
 * @param stem "model", "decoder_model_merged". @param scheme "w4a16g128". @param float16 true where what is not quantized is float16.
 */
export function hubNameOf(stem: string, scheme: string, float16 = false): HubName {
  const pair = DTYPES[/^w\d+a\d+/.exec(scheme)?.[0] ?? '']
  if (!pair) return wholeName(`${stem}${float16 ? '_fp16' : ''}_${scheme}`)
  const dtype = pair[float16 ? 1 : 0]
  return { file: `${stem}${DTYPE_SUFFIXES[dtype]}.onnx`, dtype, stem, isUsual: stem === USUAL_STEM }
}

/** The request for a file whose name was chosen by someone else. */
export function hubNameOfFile(file: string): HubName {
  const name = file.replace(/\.onnx$/, '')
  const found = Object.entries(DTYPE_SUFFIXES).find(([, suffix]) => suffix !== '' && name.endsWith(suffix))
  if (!found) return wholeName(name)
  const [dtype, suffix] = found
  const stem = name.slice(0, -suffix.length)
  return { file, dtype, stem, isUsual: stem === USUAL_STEM }
}

/** Names that exporters give to the parts of a decoder, and transformers.js may be asked for. */
const KNOWN_STEM = /^(model|decoder(_with_past)?_model(_merged)?|decoder_with_past)$/

/** The stem of a file that enters the layout: its own where clients know it, "model" for a name that someone chose. */
export function stemInHub(source: string): string {
  const stem = stemOf(source)
  return KNOWN_STEM.test(stem) ? stem : USUAL_STEM
}

/** Options of `from_pretrained`, as they are typed: "{ dtype: 'q4' }". */
export function hubOptions({ dtype, stem, isUsual }: HubName): string {
  const file = isUsual ? '' : `model_file_name: '${stem}', `
  return `{ ${file}dtype: '${dtype}' }`
}
