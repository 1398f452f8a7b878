/** @file Programs of real exporters' files have kernels on every provider, as those of test/quant/learn/device-kernels.test.ts. */

import { describe, expect, test } from 'vitest'
import { analyze } from '../../src/quant/find/analyze.ts'
import { problems } from '../helpers/device-kernels.ts'
import { blockPrograms, METHODS } from '../helpers/every-program.ts'
import { needsShared } from '../helpers/shared.ts'
import { modelOf, RUNNING } from './files.ts'

describe('programs of every exporter', needsShared, () => {
  test.each(RUNNING)('%s', async (name, { routers }) => {
    const analysis = await analyze(modelOf(name), 24)
    for (const scheme of ['W4A16 g32', 'W4A4 with transformations'])
      for (const [program, graph] of blockPrograms(analysis, METHODS[scheme]!))
        expect(
          // Routers count with int64 numbers, which WebGPU has no kernels for: a few a token go to the CPU.
          problems(graph).filter(node => !(routers && /^webgpu: .*int64/.test(node))),
          `${scheme}, ${program}`,
        ).toEqual([])
  })
})
