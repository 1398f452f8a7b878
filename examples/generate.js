// Loads a model with onnxruntime-node alone and lets it continue a prompt: greedy, with its KV cache. What omniquant writes runs like this.
//   node examples/generate.js [FOLDER] [PROMPT] [TOKENS]
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Tokenizer } from '@huggingface/tokenizers'
import { InferenceSession, Tensor } from 'onnxruntime-node'

const bundled = new URL('../fixtures/tiny-llama', import.meta.url).pathname
const [folder = bundled, prompt = 'The ', most = '24'] = process.argv.slice(2)

const json = name => JSON.parse(readFileSync(join(folder, name), 'utf8'))
const tokenizer = new Tokenizer(json('tokenizer.json'), json('tokenizer_config.json'))
const { eos_token_id: end } = json('config.json')
const session = await InferenceSession.create(join(folder, 'model.onnx'))

const int64 = values => new Tensor('int64', BigInt64Array.from(values, BigInt), [1, values.length])

// Caches of no tokens yet: a dimension with a name is 1 for the batch and 0 for the past.
let cache = {}
for (const { name, type, shape } of session.inputMetadata.filter(({ name }) => name.startsWith('past_key_values'))) {
  const dims = shape.map((size, axis) => (typeof size === 'number' ? size : axis === 0 ? 1 : 0))
  cache[name] = new Tensor(type, type === 'float16' ? new Uint16Array(0) : new Float32Array(0), dims)
}

// The first run reads the prompt, each further one the token before.
let ids = tokenizer.encode(prompt).ids
const text = [...ids]
let past = 0
for (let written = 0; written < Number(most); written++) {
  const positions = ids.map((_, i) => past + i)
  const feeds = {
    ...cache,
    input_ids: int64(ids),
    attention_mask: int64(Array(past + ids.length).fill(1)),
    ...(session.inputNames.includes('position_ids') && { position_ids: int64(positions) }),
  }
  const outputs = await session.run(feeds)
  past += ids.length
  cache = Object.fromEntries(
    Object.keys(cache).map(name => [name, outputs[name.replace('past_key_values', 'present')]]),
  )
  const { data, dims } = outputs.logits
  const last = data.subarray(data.length - dims[2])
  const next = last.reduce((best, logit, id) => (logit > last[best] ? id : best), 0)
  if (next === end) break
  text.push(next)
  ids = [next]
}
console.log(tokenizer.decode(text))
