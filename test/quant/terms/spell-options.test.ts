/** @file Options that are spelled out make the same run as those that were given. */

import { resolve } from 'node:path'
import { expect, test } from 'vitest'
import { analyze } from '../../../src/quant/find/analyze.ts'
import { signatureOfRun } from '../../../src/quant/signature.ts'
import type { QuantizeOptions } from '../../../src/quant/terms/options.ts'
import { PRESETS } from '../../../src/quant/terms/presets.ts'
import { resolveOptions } from '../../../src/quant/terms/resolve-options.ts'
import { spellOptions } from '../../../src/quant/terms/spell-options.ts'
import { TARGET_NAMES } from '../../../src/quant/terms/targets.ts'

const model = resolve(import.meta.dirname, '../../../fixtures/tiny-llama')

const SCHEMES: readonly Omit<QuantizeOptions, 'model'>[] = [
  { scheme: 'w4a16' },
  { scheme: 'w3a16g64', symmetric: true, samples: 8, epochs: 2, seqLen: 32 },
  { bits: 2, perChannel: true, rounding: 'gptq', lmHead: 'float' },
  { scheme: 'w8a8', symmetricActivations: true, let: false },
  { scheme: 'w8a16', staticActivations: true, range: 'minmax', format: 'qdq' },
  { scheme: 'w4a4', let: 'affine', alpha: 0.3, keepCache: true },
  { scheme: { weights: { bits: 4, group: undefined, symmetric: true }, activations: undefined }, threads: 1 },
  { scheme: 'w4a16', overrides: [{ pattern: 'down_proj', bits: 8 }], ignore: ['o_proj'], devices: ['cpu', 'cpu'] },
]

const RUNS = SCHEMES.flatMap(options => [
  options,
  ...Object.keys(PRESETS).map(preset => ({ ...options, preset: preset as keyof typeof PRESETS })),
])

test('schemes and presets: the signature of the run is the same, also after JSON', async () => {
  const analysis = await analyze(model, 16)
  for (const given of RUNS) {
    const { options } = spellOptions({ model, ...given })
    const again = JSON.parse(JSON.stringify(options)) as QuantizeOptions
    const before = resolveOptions({ model, ...given })
    expect(signatureOfRun(resolveOptions(again), analysis)).toEqual(signatureOfRun(before, analysis))
    expect({ ...resolveOptions(again), session: before.session }).toEqual(before)
  }
})

test.each(TARGET_NAMES)('%s: what the target fills in is written out', target => {
  const { options, adapted } = spellOptions({ model, target })
  const run = resolveOptions({ model, target })
  expect({ ...resolveOptions(JSON.parse(JSON.stringify(options)) as QuantizeOptions), session: 0 }).toEqual({
    ...run,
    session: 0,
  })
  expect(options).toMatchObject({ target, format: run.format, accuracyLevel: run.accuracyLevel })
  expect(options.group).toBe(run.scheme.weights.group)
  expect(options.learningRate).toBe(PRESETS.default.learningRate)
  expect(options.threads).toBeGreaterThan(0)
  // The run may take fewer samples of a large model, which a number that is given forbids.
  expect(adapted).toMatchObject({ samples: PRESETS.default.samples, epochs: PRESETS.default.epochs })
  expect(options).not.toHaveProperty('samples')
})

test('what is given is kept as it is', () => {
  const { options, adapted } = spellOptions({ model, scheme: 'w4a16', samples: 8, rounding: 'nearest', lmHead: 8 })
  expect(options).toMatchObject({ samples: 8, rounding: 'nearest', lmHead: 8, epochs: 4 })
  expect(Object.keys(adapted).sort()).toEqual(['embedding', 'seqLen'])
})
