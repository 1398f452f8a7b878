/** @file A block's life: as much work as the effort reckons with, and the better of learned and rounded. */

import { join, resolve } from 'node:path'
import { beforeEach, expect, test, vi } from 'vitest'
import { ActivationStore } from '../../../src/calibration/activation-store.ts'
import { staticShape } from '../../../src/graph/shape.ts'
import { elementCount } from '../../../src/graph/tensor.ts'
import { analyze } from '../../../src/quant/find/analyze.ts'
import type * as FoldBlock from '../../../src/quant/learn/fold-block.ts'
import { learnBlock, workOf } from '../../../src/quant/learn/learn-block.ts'
import { blockPlanner } from '../../../src/quant/plan/block-planner.ts'
import type { Method } from '../../../src/quant/terms/options.ts'
import { parseScheme } from '../../../src/quant/terms/scheme.ts'
import { noise } from '../../kernels/weights.ts'
import { tempDir } from '../../helpers/temp-dir.ts'
import { methodOf } from '../../helpers/method.ts'

const counter = vi.hoisted(() => ({ folds: 0 }))
vi.mock('../../../src/quant/learn/fold-block.ts', async original => {
  const { foldBlock } = await original<typeof FoldBlock>()
  return {
    foldBlock: (...args: Parameters<typeof foldBlock>) => {
      counter.folds++
      return foldBlock(...args)
    },
  }
})
beforeEach(() => void (counter.folds = 0))

const folder = tempDir()
const analysis = await analyze(resolve(import.meta.dirname, '../../../fixtures/tiny-llama'), 8)
const [block] = analysis.blocks
const shape = staticShape(block!.input)
const SAMPLES = 2

/** Learns the first block; also the number of its runs over all samples. */
async function learned(changes: Partial<Method>) {
  let forwards = 0
  const method: Method = methodOf({
    scheme: parseScheme('w3a16g32'),
    lwc: true,
    epochs: 6,
    learningRate: 5e-2,
    schedule: 'constant',
    session: {},
    onEvent: event => {
      if (event.type === 'block' && ['targets', 'outputs'].includes(event.phase) && event.done === 1) forwards++
    },
    ...changes,
  })
  const open = (name: string) => new ActivationStore(join(folder, name), SAMPLES, shape)
  const states = {
    float: open('float'),
    quantized: open('quantized'),
    nextFloat: open('next-float'),
    nextQuantized: open('next-quantized'),
  }
  for (let i = 0; i < SAMPLES; i++)
    for (const store of [states.float, states.quantized])
      store.write(i, Float32Array.from(noise(elementCount(shape), i + 1)))
  const plan = blockPlanner(method, analysis)(block!)
  try {
    return { finished: await learnBlock(plan, { method, blocks: 1, states }), forwards, work: workOf(plan, method) }
  } finally {
    for (const store of Object.values(states)) store.remove()
  }
}

// At 8 bits the clipping that learning starts from is worse than none: rounding is better, and is done again.
const USELESS = { scheme: parseScheme('w8a16g32'), epochs: 0 }

test.each([{ augLoss: false }, { augLoss: true }])('%o: the most work is what is reckoned with', async changes => {
  const { finished, forwards, work } = await learned({ ...USELESS, ...changes })
  expect(finished.report.kept).toBe('rounded')
  expect(finished.learned).toBeUndefined()
  expect({ forwards, folds: counter.folds }).toEqual(work)
})

const MATRICES = { scheme: parseScheme('w4a4'), let: 'affine' } as const

test.each([{ rounding: 'weighted' }, { rounding: 'gptq', lwc: false }, MATRICES] as const)(
  '%o: runs of the block',
  async changes => {
    const { finished, forwards, work } = await learned({ ...changes, epochs: 0 })
    expect(finished.report.kept).toBe('learned')
    // One run less than with a rounded block that is done again.
    expect(forwards).toBe(work.forwards - 1)
  },
)

test('learning that helps is kept, with less work', async () => {
  const { finished, forwards, work } = await learned({})
  expect(finished.report.kept).toBe('learned')
  expect(finished.report.learnedLoss).toBeLessThan(finished.report.roundedLoss!)
  expect(finished.linears.map(({ linear }) => linear)).toEqual(block!.linears)
  expect({ forwards, folds: counter.folds }).toEqual({ forwards: work.forwards - 1, folds: work.folds - 1 })
})
