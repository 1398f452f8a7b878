/** @file Runs that choose bits: the size that was planned is that of the file, what is measured is kept, and a mix is the same run typed out. */

import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { modelBytes } from '../helpers/model-bytes.ts'
import { openModel } from '../../src/kernels/session.ts'
import { evaluationWindows, loadTokens } from '../../src/calibration/dataset.ts'
import { loadTokenizer } from '../../src/calibration/tokenizer.ts'
import { feedsFor } from '../../src/decoder/feeds.ts'
import { describeIo } from '../../src/decoder/model-io.ts'
import { loadModel } from '../../src/graph/onnx-file/load.ts'
import { readFloats } from '../../src/kernels/float16.ts'
import { meanDivergence } from '../../src/quant/choose/output-divergence.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import type { QuantizeOptions } from '../../src/quant/terms/options.ts'
import type { QuantizeEvent, QuantizeReport } from '../../src/quant/terms/report.ts'
import type { ChoiceReport } from '../../src/quant/terms/sensitivity.ts'
import { parseWeightOverride } from '../../src/quant/terms/scheme.ts'
import { tempDir } from '../helpers/temp-dir.ts'
import { testFolder } from '../helpers/test-folder.ts'

const LLAMA = resolve(import.meta.dirname, '../../fixtures/tiny-llama')

const OPTIONS = {
  ...{ model: LLAMA, calib: join(LLAMA, 'calib.txt'), samples: 16, seqLen: 64, epochs: 1, threads: 1 },
  ...{ lmHead: 'float', embedding: 'float', accuracyLevel: 0 },
} satisfies QuantizeOptions

/** One table for all tests: measuring takes longest. */
const TABLE = join(tempDir(), 'sensitivities.json')

const choose = (options: Partial<QuantizeOptions>, onEvent?: (event: QuantizeEvent) => void): Promise<QuantizeReport> =>
  quantizeModel({ ...OPTIONS, output: join(testFolder(), 'q.onnx'), sensitivity: TABLE, ...options }, { onEvent })

const phases = (events: string[]) => (event: QuantizeEvent) => {
  if (event.type === 'choosing') events.push(event.phase)
}

describe('sizes and divergences', () => {
  test('a dry run measures, chooses and writes the table, and no model', async () => {
    const out = join(testFolder(), 'q.onnx')
    const report = await choose({ maxSize: 400_000, dryRun: true, output: out })
    expect(readdirSync(dirname(out))).toEqual([])
    const { choice } = report
    expect(report.files).toEqual([])
    expect(report.sizeAfter).toBe(choice!.plannedBytes)
    expect(choice!.plannedBytes).toBeLessThanOrEqual(400_000)
    expect(JSON.parse(readFileSync(TABLE, 'utf8'))).toEqual(choice!.sensitivities)
    const { linears } = choice!.sensitivities
    expect(linears).toHaveLength(21)
    for (const { candidates } of linears) {
      const [coarse, fine] = [candidates[0]!, candidates.at(-1)!]
      expect(coarse.error).toBeGreaterThan(100 * fine.error)
      expect(coarse.kl).toBeGreaterThan(100 * fine.kl)
      expect(coarse.sizeBytes).toBeLessThan(fine.sizeBytes)
    }
  })

  test('the file is never larger than planned, and hardly smaller; its divergence is about what was predicted', async () => {
    const reports: QuantizeReport[] = []
    /** Planned size if each weight had the candidate of an extreme size. */
    const size = ({ sensitivities, plannedBytes, chosen }: ChoiceReport, extreme: (...sizes: number[]) => number) =>
      sensitivities.linears.reduce((sum, { candidates }, i) => {
        const sizes = candidates.map(({ sizeBytes }) => sizeBytes)
        return sum + extreme(...sizes) - sizes[chosen[i]!]!
      }, plannedBytes)
    const dry = (await choose({ maxSize: 1e9, dryRun: true })).choice!
    const [least, most] = [size(dry, Math.min), size(dry, Math.max)]
    for (const share of [0, 0.2, 0.5, 1]) {
      const maxSize = Math.round(least + share * (most - least))
      const report = await choose({ maxSize, lwc: false, rounding: 'weighted' })
      const { choice, sizeAfter } = report
      expect(sizeAfter).toBeLessThanOrEqual(choice!.plannedBytes)
      expect(choice!.plannedBytes).toBeLessThanOrEqual(maxSize)
      expect(choice!.plannedBytes - sizeAfter).toBeLessThan(0.02 * sizeAfter)
      // Sums fall short where all weights have 2 bits.
      expect(choice!.measuredKl! / choice!.predictedKl).toBeGreaterThan(1 / 4)
      expect(choice!.measuredKl! / choice!.predictedKl).toBeLessThan(4)
      reports.push(report)
    }
    const measured = reports.map(({ choice }) => choice!.measuredKl!)
    expect(measured.toSorted((a, b) => b - a)).toEqual(measured)
    await expect(choose({ maxSize: Math.round(least) - 1 })).rejects.toMatchObject({
      code: 'E_LIMIT',
      message: expect.stringContaining(`(${Math.round(least)} bytes)`) as string,
    })
  })

  test('the divergence is that between the logits of both files', async () => {
    const { output, choice } = await choose({ maxSize: 380_000, lwc: false, samples: 2 })
    // The second of two samples is kept aside.
    expect(choice!.measuredTokens).toBe(64)
    const io = describeIo(loadModel(output))
    const tokens = loadTokens(OPTIONS.calib, () => loadTokenizer(LLAMA)).tokens
    const window = evaluationWindows(tokens, 64)[7]!
    const logits = async (path: string) => {
      const session = await openModel(path, { threads: 1 })
      const outputs = await session.run(feedsFor(io, window, 1, 64), [io.logits.name])
      await session.release()
      return readFloats(outputs[io.logits.name]!)
    }
    const [float, quantized] = [await logits(join(LLAMA, 'model.onnx')), await logits(output)]
    const row = (all: Float32Array, t: number) => [...all.subarray(t * 320, (t + 1) * 320)]
    const softmax = (numbers: number[]) => {
      const powers = numbers.map(x => Math.exp(x - Math.max(...numbers)))
      return powers.map(x => x / powers.reduce((sum, each) => sum + each, 0))
    }
    let kl = 0
    for (let t = 0; t < 64; t++) {
      const [p, q] = [softmax(row(float, t)), softmax(row(quantized, t))]
      kl += p.reduce((sum, each, i) => sum + each * Math.log(each / q[i]!), 0) / 64
    }
    expect(meanDivergence(float, quantized, 64)).toBeCloseTo(kl, 8)
    expect(meanDivergence(float, float, 64)).toBe(0)
    // Another window of the same text: the same model is about as far away.
    expect(choice!.measuredKl! / kl).toBeGreaterThan(0.2)
    expect(choice!.measuredKl! / kl).toBeLessThan(5)
  })
})

test('a smaller divergence costs size; one that cannot be had is refused', async () => {
  const sizes: number[] = []
  for (const maxKl of [0.3, 0.03, 0.003]) {
    const { choice } = await choose({ maxKl, dryRun: true })
    expect(choice!.predictedKl).toBeLessThanOrEqual(maxKl)
    expect(choice!.maxSize).toBeUndefined()
    sizes.push(choice!.plannedBytes)
  }
  expect(sizes.toSorted((a, b) => a - b)).toEqual(sizes)
  expect(new Set(sizes).size).toBe(3)
  await expect(choose({ maxKl: 1e-12, dryRun: true })).rejects.toMatchObject({ code: 'E_LIMIT', option: 'maxKl' })
})

test('the mix typed out as overrides is the same file, without the samples that were kept aside', async () => {
  const report = await choose({ maxSize: 400_000, lwc: false })
  const overrides = Object.entries(report.choice!.overrides).map(([pattern, text]) => ({
    pattern,
    ...parseWeightOverride(text),
  }))
  expect(new Set(overrides.map(({ bits }) => bits)).size).toBeGreaterThan(1)
  const typed = await quantizeModel({
    ...{ ...OPTIONS, samples: 15, lwc: false, scheme: 'w4a16', overrides },
    output: join(testFolder(), 'q.onnx'),
  })
  expect(modelBytes(typed.output).equals(modelBytes(report.output))).toBe(true)
})

test('an override of the user stays, and ignored weights stay float', async () => {
  const { choice, skipped } = await choose({
    ...{ maxSize: 600_000, lwc: false, sensitivity: undefined, samples: 2 },
    ...{ overrides: [{ pattern: 'down_proj', bits: 3, group: 32 }], ignore: ['layers.1'] },
  })
  const named = Object.entries(choice!.overrides)
  expect(named.filter(([name]) => name.includes('layers.1'))).toEqual([])
  expect(skipped).toHaveLength(7)
  expect(named.filter(([name]) => name.endsWith('down_proj')).map(([, text]) => text)).toEqual(['w3g32', 'w3g32'])
})

test('a run that ended early goes on with the sensitivities it began with, and gives the same bytes', async () => {
  const [out, whole] = [join(testFolder(), 'q.onnx'), join(testFolder(), 'q.onnx')]
  const options = { maxSize: 390_000, sensitivity: undefined, samples: 4 }
  const stop = (event: QuantizeEvent) => {
    if (event.type === 'blockDone' && event.report.index === 1) throw new Error('enough')
  }
  await expect(choose({ ...options, output: out }, stop)).rejects.toThrow('enough')
  await expect(choose({ ...options, output: out, maxSize: 395_000 })).rejects.toMatchObject({
    code: 'E_RESUME',
    message: expect.stringContaining('its largest size was 390000, now it is 395000') as string,
  })
  // A table with other numbers is not that of this run.
  const other = join(testFolder(), 's.json')
  writeFileSync(other, readFileSync(TABLE))
  await expect(choose({ ...options, output: out, sensitivity: other })).rejects.toMatchObject({ code: 'E_RESUME' })
  const events: string[] = []
  const resumed = await choose({ ...options, output: out }, phases(events))
  expect(events).not.toContain('sensitivities')
  expect(resumed.notes[0]).toContain('went on from an earlier run')
  const straight = await choose({ ...options, output: whole })
  expect(resumed.choice).toEqual(straight.choice)
  expect(readFileSync(out).equals(readFileSync(whole))).toBe(true)
})

test.each<[string, (table: { linears: { name: string; inFeatures: number }[] }) => unknown, string]>([
  ['no JSON', () => '{', 'cannot be used as sensitivities'],
  ['something else', () => ({ a: 1 }), 'it does not say "format"'],
  ['numbers that are none', table => ({ ...table, tokens: 'x' }), 'it is damaged'],
  [
    'another model',
    table => ({ ...table, linears: [{ ...table.linears[0], name: 'x' }] }),
    'this run quantizes no "x"',
  ],
  ['fewer weights', table => ({ ...table, linears: table.linears.slice(0, -1) }), 'is not at its place in it'],
  [
    'other shapes',
    table => ({ ...table, linears: table.linears.map(each => ({ ...each, inFeatures: 1 })) }),
    'is 1 x ',
  ],
])('a file of sensitivities with %s: one error', async (_, change, message) => {
  const path = join(testFolder(), 's.json')
  const changed = change(JSON.parse(readFileSync(TABLE, 'utf8')) as never)
  writeFileSync(path, typeof changed === 'string' ? changed : JSON.stringify(changed))
  await expect(choose({ maxSize: 400_000, dryRun: true, sensitivity: path })).rejects.toMatchObject({
    code: 'E_PARAMETERS',
    message: expect.stringContaining(message) as string,
  })
})

test('a file of sensitivities for other groups, and too few samples: one error each', async () => {
  await expect(choose({ maxSize: 400_000, dryRun: true, group: 16 })).rejects.toMatchObject({
    message: expect.stringContaining('was not measured as w2g16') as string,
  })
  await expect(choose({ maxSize: 400_000, samples: 1 })).rejects.toMatchObject({ code: 'E_USAGE', option: 'samples' })
})
