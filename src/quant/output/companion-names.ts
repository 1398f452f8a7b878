/** @file Names of the files that travel with a model: those that clients of ONNX models read. */

const NAMES: ReadonlySet<string> = new Set([
  // Configuration: transformers, optimum, transformers.js, onnxruntime-genai.
  'config.json',
  'generation_config.json',
  'genai_config.json',
  // Tokenizers, fast and slow.
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'vocab.txt',
  'merges.txt',
  'tokenizer.model',
  'spiece.model',
  'sentencepiece.bpe.model',
  'tekken.json',
  // Chat templates that are not inside tokenizer_config.json.
  'chat_template.jinja',
  'chat_template.json',
  // Images and sound, of models whose decoder is one of several files.
  'preprocessor_config.json',
  'processor_config.json',
  'image_processor_config.json',
  'video_preprocessor_config.json',
  'vision_processor.json',
  'audio_processor_config.json',
  'speech_processor.json',
])

/** True for files that a client reads beside the model: they are copied. */
export const isCompanion = (name: string): boolean => NAMES.has(name) || name.endsWith('.tiktoken')

/** True for files that could describe the model, known or not: what is not copied of them is named in a note. Plain text does not. */
export const mayDescribeModel = (name: string): boolean =>
  isCompanion(name) || (/\.(json|model|jinja)$/.test(name) && !name.startsWith('.'))
