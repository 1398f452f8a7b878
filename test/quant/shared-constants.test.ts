/** @file Constants with several readers: what is learned for one of them leaves the others as they were. */

import { writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { feedsFor } from '../../src/decoder/feeds.ts'
import { describeIo } from '../../src/decoder/model-io.ts'
import { consumersOf, type Graph, type Model, Node, Value } from '../../src/graph/ir.ts'
import { loadModel } from '../../src/graph/onnx-file/load.ts'
import { saveModel } from '../../src/graph/onnx-file/save.ts'
import { readFloats } from '../../src/kernels/float16.ts'
import { openModel } from '../../src/kernels/session.ts'
import { analyze } from '../../src/quant/find/analyze.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { testFolder } from '../helpers/test-folder.ts'
import { toyTokens } from '../helpers/toy-decoder.ts'
import { replaceUses } from '../helpers/replace-uses.ts'

const FIXTURE = resolve(import.meta.dirname, '../../fixtures/tiny-llama')
const TOKENS = BigInt64Array.from({ length: 24 }, (_, i) => BigInt((i * 37 + 5) % 320))

const gainsOf = (graph: Graph): Value[] => graph.initializers.filter(({ name }) => /norm\.weight$/.test(name))

/** One tensor for every norm: as torch's exporters write equal gains, plainly or through Identity. */
function shareGains(model: Model, through: 'initializer' | 'Identity'): Value {
  const { graph } = model
  const [first, ...others] = gainsOf(graph)
  if (through === 'initializer') replaceUses(graph, new Map(others.map(other => [other, first!])))
  else {
    for (const other of others) {
      other.tensor = undefined
      other.source = undefined
      graph.nodes.unshift(new Node('Identity', [first], [other], new Map(), '', `${other.name}_alias`))
    }
  }
  const gone = new Set(others)
  graph.initializers = graph.initializers.filter(value => !gone.has(value))
  return first!
}

/** Multiplies what the embedding gives with the gain as well: a reader that is no norm. */
function readElsewhere({ graph }: Model, gain: Value): void {
  const lookup = graph.nodes.find(({ kind }) => kind === 'Gather')!
  const [embedded] = lookup.outputs as [Value]
  const scaled = new Value('scaled_embedding', 'float32')
  replaceUses(graph, new Map([[embedded, scaled]]))
  graph.nodes.splice(
    graph.nodes.indexOf(lookup) + 1,
    0,
    new Node('Mul', [embedded, gain], [scaled], new Map(), '', '/scale/Mul'),
  )
}

async function logits(path: string): Promise<Float32Array> {
  const session = await openModel(path)
  const io = describeIo(session, FIXTURE)
  const outputs = await session.run(feedsFor(io, TOKENS, 1, TOKENS.length), [io.logits.name])
  await session.release()
  return readFloats(outputs[io.logits.name]!)
}

test.each(['initializer', 'Identity'] as const)(
  'one gain for all norms, and for a product besides: %s',
  async through => {
    const [source, output] = [join(testFolder(), 'model.onnx'), join(testFolder(), 'out.onnx')]
    const model = loadModel(join(FIXTURE, 'model.onnx'))
    const gain = shareGains(model, through)
    readElsewhere(model, gain)
    await saveModel(model, source)
    const calib = join(testFolder(), 'calib.jsonl')
    writeFileSync(calib, toyTokens(4, 25))
    const { blocks } = await analyze(source, 8)
    const report = await quantizeModel({
      ...{
        calib,
        model: source,
        output,
        scheme: parseScheme('w5a8'),
        lwc: false,
        let: true,
        epochs: 2,
        samples: 4,
        seqLen: 24,
      },
      ...{
        seed: 0,
        learningRate: 1e-2,
        schedule: 'cosine',
        accuracyLevel: 0,
      },
    })
    expect(report.blocks.map(({ mappings }) => mappings!.length)).toEqual(blocks.map(() => 5))
    const learned = report.blocks.filter(({ kept }) => kept === 'learned').length
    expect(learned).toBeGreaterThan(0)

    const { graph } = loadModel(output)
    const [before, after] = [readFloats(gain.tensor!), graph.initializers.find(({ name }) => name === gain.name)!]
    expect(readFloats(after.tensor!)).toEqual(before)
    // Two norms of each learned block have gains of their own; the rest, the last norm and the product read what they read before.
    const own = graph.initializers.filter(({ name }) => /_transformed(_\d+)?$/.test(name))
    expect(own).toHaveLength(2 * learned)
    for (const value of own) expect(consumersOf(graph).get(value)).toHaveLength(1)

    const [expected, got] = [await logits(source), await logits(output)]
    const worst = Math.max(...expected.map((value, i) => Math.abs(value - got[i]!)))
    expect(worst / (Math.max(...expected) - Math.min(...expected))).toBeLessThan(0.1)
  },
)
