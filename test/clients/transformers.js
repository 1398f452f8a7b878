/**
 * @file transformers.js in Node: the folders of prepare.js as they are. Needs @huggingface/transformers.
 *
 *     node test/clients/transformers.js OUT
 */

import { createRequire } from 'node:module'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { compare } from './greedy.js'

/** dtype of "onnx/model_quantized.onnx", as the note of `quantize` says it. */
const dtypeOf = model => {
  const suffix = /_(\w+)\.onnx$/.exec(model)[1]
  return suffix === 'quantized' ? 'q8' : suffix
}

/** Prompt and tokens through the public interface. */
async function run({ AutoModelForCausalLM, Tensor }, folder, reference) {
  const model = await AutoModelForCausalLM.from_pretrained(folder, {
    dtype: dtypeOf(reference.model),
    local_files_only: true,
  })
  const { prompt } = reference
  const tensor = values => new Tensor('int64', BigInt64Array.from(values, BigInt), [1, values.length])
  const inputs = () => ({ input_ids: tensor(prompt), attention_mask: tensor(prompt.map(() => 1)) })
  const { logits } = await model(inputs())
  const row = logits.data.subarray(logits.data.length - logits.dims.at(-1))
  const generated = await model.generate({ ...inputs(), max_new_tokens: reference.tokens.length, do_sample: false })
  await model.dispose()
  return { logits: [...row], tokens: [...generated.data].slice(prompt.length).map(Number) }
}

const out = resolve(process.argv[2])
// From the folder it was installed in, which may be another than this one.
const require = createRequire(pathToFileURL(join(process.cwd(), 'x.js')))
const transformers = await import(pathToFileURL(require.resolve('@huggingface/transformers')).href)
transformers.env.localModelPath = ''
console.log(`transformers.js ${transformers.env.version}, Node ${process.version}`)
let agree = true
for (const name of readdirSync(out).sort()) {
  const path = join(out, name, 'reference.json')
  if (name.startsWith('genai') || !existsSync(path)) continue
  const reference = JSON.parse(readFileSync(path, 'utf8'))
  const { agrees, line } = compare(reference, await run(transformers, join(out, name), reference))
  agree &&= agrees
  console.log(`${line}: ${name}`)
}
process.exitCode = agree ? 0 : 1
