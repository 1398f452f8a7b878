/** @file A device that fails while a run is under way: the error names it, and the CPU goes on. */

import * as ort from 'onnxruntime-node'
import { afterEach, expect, test, vi } from 'vitest'
import { Builder } from '../../src/graph/builder.ts'
import { floatTensor } from '../../src/graph/tensor.ts'
import type { Device } from '../../src/kernels/device.ts'
import { compile, runGraph } from '../../src/kernels/session.ts'

afterEach(() => vi.restoreAllMocks())

/** onnxruntime with a device whose programs load on the CPU and fail in every run. */
function failInRun(message: string): void {
  const create = ort.InferenceSession.create.bind(ort.InferenceSession) as (
    source: Uint8Array,
    options: ort.InferenceSession.SessionOptions,
  ) => Promise<ort.InferenceSession>
  vi.spyOn(ort.InferenceSession, 'create').mockImplementation((async (source: Uint8Array) => {
    const session = await create(source, {})
    return Object.assign(session, { run: () => Promise.reject(new Error(message)) })
  }) as unknown as typeof ort.InferenceSession.create)
}

function twice(): Builder {
  const g = new Builder()
  g.output(g.scale(g.input('x', 'float32', [1]), 2), 'y')
  return g
}

const run = (device: Device) => runGraph(twice().graph, { x: floatTensor([1], [1]) }, { device })

const LAUNCH =
  "Non-zero status code returned while running Mul node. Name:'mul' Status Message: CUDA failure 719: unspecified launch failure ; GPU=1"

test('a fault that is known for the device: its name, its reason, and that --device cpu goes on', async () => {
  failInRun(LAUNCH)
  await expect(run('cuda:1')).rejects.toMatchObject({
    code: 'E_DEVICE',
    message: expect.stringMatching(
      /^cuda:1: CUDA reports error 719: unspecified launch failure: onnxruntime could not run Mul "mul"/,
    ) as string,
    hint: expect.stringMatching(/with `device: cpu` goes on without cuda:1; finished blocks are kept/) as string,
  })
})

test('memory of the GPU that runs out is the GPU’s', async () => {
  failInRun('bfc_arena.cc:376 Failed to allocate memory for requested buffer of size 180355072')
  await expect(run('cuda:0')).rejects.toMatchObject({
    code: 'E_DEVICE',
    message: /^cuda:0: the GPU has too little free/,
  })
  await expect(run('cpu')).rejects.toMatchObject({ code: 'E_MEMORY' })
})

test('a fault that may be the program’s stays E_RUNTIME, and names the device too', async () => {
  failInRun("Non-zero status code returned while running Mul node. Name:'mul' Status Message: shapes do not fit")
  await expect(run('webgpu')).rejects.toMatchObject({
    code: 'E_RUNTIME',
    message: 'webgpu: onnxruntime could not run Mul "mul": shapes do not fit',
    hint: expect.stringContaining('`device: cpu` goes on') as string,
  })
  await expect(run('cpu')).rejects.toMatchObject({ code: 'E_RUNTIME', hint: undefined })
})

test('a device that is not there is E_RUNTIME or E_DEVICE when a program is loaded, with its name', async () => {
  await expect(compile(twice().graph, { device: 'cuda:0' })).rejects.toMatchObject({
    message: expect.stringMatching(/^cuda:0.*could not load the program/) as string,
    hint: expect.stringContaining('`device: cpu` goes on') as string,
  })
})
