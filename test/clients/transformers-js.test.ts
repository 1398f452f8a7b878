/**
 * @file transformers.js itself, in Node, reads what we write in its layout. package.json puts small packages in the place of two that it
 * does not need here: onnxruntime-web (141 MB; its Node build has its own copy) and sharp (images).
 */

import { readdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { AutoModelForCausalLM, env, Tensor } from '@huggingface/transformers'
import * as ort from 'onnxruntime-node'
import { beforeAll, expect, test } from 'vitest'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import { testFolder } from '../helpers/test-folder.ts'
import { compare, greedy } from './greedy.js'

const FIXTURE = resolve(import.meta.dirname, '../../fixtures/tiny-llama')
const PROMPT = [1, 40, 52, 77, 101, 64]
const COUNT = 12

beforeAll(() => {
  env.localModelPath = ''
  env.allowRemoteModels = false
})

/** Logits and tokens by the public interface of transformers.js. */
async function generate(folder: string, dtype: 'q4' | 'q8') {
  const model = await AutoModelForCausalLM.from_pretrained(folder, { dtype })
  const tensor = (values: readonly number[]) =>
    new Tensor('int64', BigInt64Array.from(values, BigInt), [1, values.length])
  const inputs = () => ({ input_ids: tensor(PROMPT), attention_mask: tensor(PROMPT.map(() => 1)) })
  const { logits } = (await model(inputs())) as { logits: Tensor }
  const row = [...(logits.data as Float32Array)].slice(-logits.dims.at(-1)!)
  const generated = await model.generate({ ...inputs(), max_new_tokens: COUNT, do_sample: false } as never)
  await model.dispose()
  return { logits: row, tokens: [...((generated as Tensor).data as BigInt64Array)].slice(PROMPT.length).map(Number) }
}

test.each([
  ['w4a16', 'model_q4.onnx', 'q4'],
  ['w8a8', 'model_quantized.onnx', 'q8'],
] as const)('%s is loaded and generates the tokens of onnxruntime', async (scheme, file, dtype) => {
  const folder = testFolder()
  await quantizeModel({
    check: false,
    ...{ model: FIXTURE, output: folder, layout: 'transformers.js', scheme, lwc: false, let: false },
    ...(scheme === 'w4a16' && { group: 32, accuracyLevel: 4 as const }),
  })
  expect(readdirSync(join(folder, 'onnx'))).toEqual([file])
  const session = await ort.InferenceSession.create(join(folder, 'onnx', file))
  const reference = await greedy(ort, session, PROMPT, COUNT)
  await session.release()
  const result = await generate(folder, dtype)
  // The same library runs both: what differs would be the wrapping.
  expect(result.tokens).toEqual(reference.tokens.slice(0, result.tokens.length))
  expect(result.tokens.length).toBeGreaterThan(3)
  expect(compare(reference, result).agrees).toBe(true)
})
