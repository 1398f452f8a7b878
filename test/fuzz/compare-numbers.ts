/**
 * @file The process that compares numbers: `compare-numbers.ts FOLDER SEED FIRST COUNT`. Takes models from number FIRST on until
 * COUNT of them were quantized and run beside their source. A hostile model may end it, so FOLDER/at holds its position as "number
 * phase", and FOLDER/compared its results, one JSON object a line.
 */

import { appendFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { feedsFor } from '../../src/decoder/feeds.ts'
import { describeIo } from '../../src/decoder/model-io.ts'
import { QuantError } from '../../src/errors.ts'
import { loadModel } from '../../src/graph/onnx-file/load.ts'
import { readFloats } from '../../src/kernels/float16.ts'
import { openModel } from '../../src/kernels/session.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { makeModel } from './cases.ts'

/** Result for a model: the difference of its logits from those of the source, or the reason for having none. */
export interface Compared {
  readonly number: number
  readonly kind: string
  /**
   * 'refused': quantizing refuses it. 'source': the source does not run. 'output': the output does not run though the source does.
   */
  readonly what: 'compared' | 'refused' | 'source' | 'output'
  /** Greatest difference, in parts of the range of the source's logits; Infinity where only one is a number. */
  readonly error?: number
  readonly detail?: string
}

const LENGTH = 12

/** All logits of one sequence. @throws the error of onnxruntime. */
async function logitsOf(source: string, path: string): Promise<Float32Array> {
  const io = describeIo(loadModel(source))
  const tokens = BigInt64Array.from({ length: LENGTH }, (_, i) => BigInt((7 * i + 3) % 32))
  const session = await openModel(path, { threads: 1 })
  try {
    const outputs = await session.run(feedsFor(io, tokens, 1, LENGTH), [io.logits.name])
    return readFloats(outputs[io.logits.name]!)
  } finally {
    await session.release()
  }
}

/** Greatest difference in parts of the range of `expected`. NaN and infinite numbers have to be in the same places. */
export function differenceOf(actual: Float32Array, expected: Float32Array): number {
  if (actual.length !== expected.length) return Infinity
  const finite = expected.filter(Number.isFinite)
  const [least, most] = finite.reduce(([low, high], x) => [Math.min(low, x), Math.max(high, x)], [Infinity, -Infinity])
  let worst = 0
  for (const [i, x] of expected.entries()) {
    const difference = Object.is(x, actual[i]) ? 0 : Math.abs(x - actual[i]!)
    worst = Math.max(worst, Number.isNaN(difference) ? Infinity : difference)
  }
  return worst === 0 ? 0 : worst / (most - least)
}

async function compareModel(seed: number, number: number, folder: string, at: (phase: string) => void) {
  at('making')
  const kind = makeModel(seed, number, folder)
  const source = join(folder, 'model.onnx')
  const output = join(folder, 'out', 'model.onnx')
  at('quantizing')
  // Every other model without zero points.
  const scheme = parseScheme('w8a16', { symmetric: number % 2 === 1 })
  try {
    await quantizeModel({
      check: false,
      ...{ model: source, output, scheme, lwc: false, let: false, samples: 1, seqLen: LENGTH },
      ...{ seed: 0, accuracyLevel: 0, threads: 1, epochs: 1, learningRate: 5e-3 },
      schedule: 'constant',
    })
  } catch (error) {
    if (error instanceof QuantError && error.code !== 'E_INTERNAL')
      return { kind, what: 'refused', detail: error.code } as const
    throw error
  }
  let expected: Float32Array
  at('source')
  try {
    expected = await logitsOf(source, source)
  } catch (error) {
    return { kind, what: 'source', detail: String(error) } as const
  }
  at('output')
  try {
    return { kind, what: 'compared', error: differenceOf(await logitsOf(source, output), expected) } as const
  } catch (error) {
    return { kind, what: 'output', detail: String(error) } as const
  }
}

const [folder, ...numbers] = process.argv.slice(2) as [string, ...string[]]
const [seed, first, count] = numbers.map(Number) as [number, number, number]
let done = 0
for (let number = first; done < count; number++) {
  const at = (phase: string) => writeFileSync(join(folder, 'at'), `${number} ${phase}`)
  const compared: Compared = { number, ...(await compareModel(seed, number, join(folder, 'case'), at)) }
  if (compared.what === 'compared') done++
  // JSON has no Infinity.
  const error = compared.error === undefined ? undefined : Math.min(compared.error, Number.MAX_VALUE)
  appendFileSync(join(folder, 'compared'), `${JSON.stringify({ ...compared, error })}\n`)
}
