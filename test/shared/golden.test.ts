/** @file Learning, step by step, against values of the reference implementation (../shared/golden/README in ../shared/README.md). */

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { ActivationStore } from '../../src/calibration/activation-store.ts'
import { calibrationSamples, loadTokens } from '../../src/calibration/dataset.ts'
import { staticShape } from '../../src/graph/shape.ts'
import { analyze } from '../../src/quant/analyze.ts'
import { learnBlock, readWeights, runBlock } from '../../src/quant/quantize-block.ts'
import { embed } from '../../src/quant/embed.ts'
import { planBlock } from '../../src/quant/plan.ts'
import { parseScheme } from '../../src/quant/scheme.ts'
import { sharedDir } from '../helpers/shared.ts'

const STEPS = 10
/** Relative. The issue asks for 1e-3; a wrong rule in the gradient of the clamp alone costs 2e-3 by the fifth step. */
const TOLERANCE = 1e-4

const noTokenizer = () => {
  throw new Error('golden tokens need no tokenizer')
}

describe.skipIf(!sharedDir)('first losses of block 0 equal the reference implementation', () => {
  test.each([
    ['w3a16_pc.json', 'wiki-llama/optimum-nopast'],
    ['w2a16_g64.json', 'wiki-llama/optimum-nopast'],
    ['w3a16_pc.json', 'wiki-llama/genai-fp32'],
    ['opt_w3a16_pc.json', 'wiki-opt/optimum-past'],
  ])('%s on %s', async (file, model) => {
    const golden = JSON.parse(readFileSync(join(sharedDir!, 'golden', file), 'utf8'))
    const { wbits, abits, group } = golden.setting
    const scheme = parseScheme(`w${wbits}a${abits}`, group === null ? { perChannel: true } : { group })
    const folder = mkdtempSync(join(tmpdir(), 'omniquant-golden-'))
    try {
      const analysis = await analyze(join(sharedDir!, 'models', model, 'model.onnx'), golden.seqLen)
      const [block] = analysis.blocks
      const source = loadTokens(join(sharedDir!, 'golden/calib_ids.npy'), noTokenizer)
      const calibration = {
        ...calibrationSamples(source, { samples: STEPS, seqLen: golden.seqLen, seed: 0 }),
        notes: [],
      }
      const dims = staticShape(block!.input)
      const x = new ActivationStore(folder, STEPS, dims)
      const y = new ActivationStore(folder, STEPS, dims)
      await embed(analysis, calibration, x)
      const weights = readWeights(block!)
      await runBlock(block!, weights, { from: x, to: y }, {})
      const settings = {
        epochs: 1,
        samples: STEPS,
        learningRate: golden.lwcLr,
        schedule: 'constant' as const,
        session: {},
      }
      const { losses } = await learnBlock(planBlock(block!, scheme), { x, y }, weights, settings)
      for (const store of [x, y]) store.close()
      for (let i = 0; i < STEPS; i++) {
        expect(Math.abs(losses[i]! - golden.losses[i]) / golden.losses[i], `loss of step ${i}`).toBeLessThan(TOLERANCE)
      }
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})
