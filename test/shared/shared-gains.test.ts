/** @file A real file in which the gains of q_norm and k_norm are one tensor, as exporters that drop equal constants write it. */

import { copyFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { feedsFor } from '../../src/decoder/feeds.ts'
import { describeIo } from '../../src/decoder/model-io.ts'
import { loadModel } from '../../src/graph/onnx-file/load.ts'
import { saveModel } from '../../src/graph/onnx-file/save.ts'
import { readFloats } from '../../src/kernels/float16.ts'
import { openModel } from '../../src/kernels/session.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { needsShared } from '../helpers/shared.ts'
import { testFolder } from '../helpers/test-folder.ts'
import { modelOf } from './files.ts'
import { replaceUses } from '../helpers/replace-uses.ts'

async function logits(path: string): Promise<Float32Array> {
  const session = await openModel(path)
  const io = describeIo(session, dirname(path))
  const tokens = BigInt64Array.from({ length: 16 }, (_, i) => BigInt((i * 89 + 7) % 251))
  const outputs = await session.run(feedsFor(io, tokens, 1, 16), [io.logits.name])
  await session.release()
  return readFloats(outputs[io.logits.name]!)
}

describe('gains shared by the norms of queries and keys', needsShared, () => {
  test('each gets its own where they are transformed', async () => {
    const [from, output] = [testFolder(), testFolder()]
    const model = loadModel(modelOf('zoo/optimum-qwen3'))
    const gains = model.graph.initializers.filter(({ name }) => /[qk]_norm\.weight$/.test(name))
    // Files made of fresh norms share some of them already; at least one is there.
    const [first, ...others] = gains
    replaceUses(model.graph, new Map(others.map(other => [other, first!])))
    model.graph.initializers = model.graph.initializers.filter(value => !others.includes(value))
    const source = join(from, 'model.onnx')
    await saveModel(model, source)
    copyFileSync(join(dirname(modelOf('zoo/optimum-qwen3')), 'config.json'), join(from, 'config.json'))

    const report = await quantizeModel({
      check: false,
      ...{ model: source, output, scheme: parseScheme('w5a8'), lwc: false, let: true, samples: 4, seqLen: 16 },
      ...{ epochs: 2, seed: 0, learningRate: 1e-2, schedule: 'cosine', accuracyLevel: 0 },
    })
    const learned = report.blocks.filter(({ kept }) => kept === 'learned').length
    expect(learned).toBeGreaterThan(0)
    const { graph } = loadModel(report.output)
    const reader = (pattern: RegExp) =>
      graph.nodes.flatMap(node => (pattern.test(node.name) ? node.inputs.filter(input => input?.tensor) : []))
    const transformed = [/q_norm\/Mul/, /k_norm\/Mul/].map(pattern =>
      reader(pattern).filter(value => value?.name.includes('_transformed')),
    )
    expect(transformed.map(values => values.length)).toEqual([learned, learned])
    for (const value of transformed[0]!) expect(transformed[1]).not.toContain(value)

    const [expected, got] = [await logits(source), await logits(report.output)]
    const worst = Math.max(...expected.map((value, i) => Math.abs(value - got[i]!)))
    expect(worst / (Math.max(...expected) - Math.min(...expected))).toBeLessThan(0.2)
  })
})
