import { expect, test } from 'vitest'
import { openStatusLine, showProgress, type StatusLine } from '../../src/cli/progress.ts'
import type { ProgressEvent } from '../../src/engine/messages.ts'
import type { BlockReport, QuantizeEvent, RunPlan } from '../../src/quant/terms/report.ts'

/** Status lines for each event, one second after the other. Lines that stay, also in logs, begin with "> ". */
function said(events: readonly ProgressEvent[], verbose = false): string[] {
  const lines: string[] = []
  let seconds = -1
  const report = showProgress(
    { say: text => lines.push(text), note: text => lines.push(`> ${text}`) },
    { verbose, now: () => seconds * 1000 },
  )
  for (const event of events) {
    seconds += 1
    report(event)
  }
  return lines
}

const block = (
  index: number,
  phase: 'targets' | 'learning' | 'rounding' | 'outputs',
  done: number,
  total: number,
  loss?: number,
): QuantizeEvent => ({ type: 'block', index, blocks: 4, phase, done, total, loss })

const FINISHED: BlockReport = {
  ...{ index: 1, linears: [], mappings: [], elapsedMs: 61_000 },
  ...{ roundedLoss: 2.5e-3, learnedLoss: 1.25e-3, kept: 'learned' },
}

test('a run from beginning to end', () => {
  expect(
    said([
      { type: 'analyzed', blocks: 4, linears: 28 },
      { type: 'calibrating', done: 64, total: 4096 },
      block(0, 'targets', 0, 32),
      block(0, 'learning', 1, 128, 0.00123),
      block(1, 'outputs', 32, 32),
      { type: 'blockDone', report: FINISHED, blocks: 4, resumed: false },
      block(3, 'outputs', 32, 32),
      { type: 'outer', name: 'lm_head', phase: 'inputs', done: 1, total: 8 },
      { type: 'outer', name: 'lm_head', phase: 'clipping', done: 1.5, total: 2 },
      { type: 'outer', name: 'lm_head', phase: 'clipping', done: 1.75, total: 2 },
      { type: 'saving', done: 10, total: 40 },
      { type: 'checking', model: 'float', done: 1, total: 4 },
      { type: 'checking', model: 'float', done: 2, total: 4 },
      { type: 'checking', model: 'quantized', done: 2, total: 4 },
    ]),
  ).toEqual([
    '28 linears in 4 blocks',
    '[----------------]  the model writes its calibration text  64/4096 tokens',
    '[----------------]  block 1/4  running the float block 0/32',
    '[----------------]  block 1/4  learning 1/128  loss 1.23e-3  1 min 24 s left',
    '[########--------]  block 2/4  running the quantized block 32/32  2.0 s left',
    '> block 2/4  loss 2.50e-3 -> 1.25e-3 (-50.0 %)  1 min 01 s  about 3.0 s for the 2 blocks that follow',
    '[################]  block 4/4  running the quantized block 32/32  0.0 s left',
    '[##--------------]  lm_head  running the last norm 13 %',
    '[############----]  lm_head  learning its clipping 75 %',
    '[##############--]  lm_head  learning its clipping 88 %  1.0 s left',
    '[####------------]  writing the output  25 %',
    '[####------------]  measuring the float model on held-out text  1/4 windows',
    '[########--------]  measuring the float model on held-out text  2/4 windows  2.0 s left',
    '[########--------]  measuring the quantized model on held-out text  2/4 windows',
  ])
})

test('--verbose has a line for each phase, once, with the time since the beginning', () => {
  const traces = { work: { path: '/w', output: '/o', missing: [] }, output: { head: '/o', others: [], folders: [] } }
  const lines = said(
    [
      { type: 'working', traces },
      block(0, 'targets', 0, 32),
      block(0, 'learning', 1, 128),
      block(0, 'learning', 2, 128),
      block(1, 'learning', 1, 128),
      { type: 'saving', done: 1, total: 2 },
      { type: 'saving', done: 2, total: 2 },
    ],
    true,
  )
  expect(lines.filter(line => line.startsWith('>'))).toEqual([
    '> work: /w',
    '> at 2.0 s  block 1/4  running the float block 0/32',
    '> at 3.0 s  block 1/4  learning 1/128',
    '> at 5.0 s  block 2/4  learning 1/128',
    '> at 6.0 s  writing the output  50 %',
  ])
})

test('the plan of a run is told before it begins', () => {
  const plan: RunPlan = {
    ...{ model: '/m/model.onnx', sizeBefore: 16e6, blocks: 4, linears: 28, scheme: 'w3a16g32', target: 'cpu' },
    ...{ output: '/out/model.onnx', sizeAfter: 4e6, learned: ['clipping', 'rounding', 'transformations'], epochs: 4 },
    storage: {
      ...{ bits: 3, storedBits: 4, quantizedWeights: 7e6, bitsPerQuantizedWeight: 4.63 },
      ...{ parameters: 8e6, bitsPerParameter: 4 },
    },
    calibration: { file: 'wiki.txt', samples: 128, seqLen: 512 },
    ...{ threads: 2, workDir: '/out/.work', notes: ['weights of 3 bits are stored in 4'] },
  }
  expect(said([{ type: 'planned', plan }])).toEqual([
    '> model: /m/model.onnx (16 MB, 28 linears in 4 blocks)',
    '> scheme: w3a16g32 for cpu, 3 bits stored in 4, about 4.0 MB (25 %), 4.63 bits a quantized weight',
    '> output: /out/model.onnx',
    '> calibration: wiki.txt, 128 samples of 512 tokens',
    '> learning: clipping, rounding and transformations, 4 epochs, on 2 threads',
    '> note: weights of 3 bits are stored in 4',
  ])
  const plain = { ...plan, calibration: undefined, learned: [], threads: 1, notes: [] } as unknown as RunPlan
  const rounded = said([{ type: 'planned', plan: plain }])
  expect(rounded.slice(3)).toEqual([
    '> calibration: none, nothing is learned from text',
    '> learning: nothing, weights are rounded, on 1 thread',
  ])
})

test('what an earlier run has done does not count for the time left', () => {
  const blockDone = (index: number, resumed: boolean): QuantizeEvent => ({
    ...{ type: 'blockDone', blocks: 4, resumed },
    report: { ...FINISHED, index, learnedLoss: 3e-3, kept: 'rounded' },
  })
  const events = [blockDone(0, true), blockDone(1, true), block(2, 'targets', 0, 10), blockDone(2, false)]
  expect(said([...events, block(3, 'targets', 0, 10)])).toEqual([
    '> resumed: 2 of 4 blocks were finished by an earlier run',
    '[----------------]  block 3/4  running the float block 0/10',
    '> block 3/4  loss 2.50e-3 -> 2.50e-3 (+0.0 %)  1 min 01 s  about 1.0 s for the last block',
    '[########--------]  block 4/4  running the float block 0/10  2.0 s left',
  ])
})

test('the time left comes from the fraction that is done, whatever came before the blocks', () => {
  const lines = said([
    { type: 'calibrating', done: 1, total: 2 },
    { type: 'calibrating', done: 2, total: 2 },
    block(0, 'learning', 0, 10),
    block(2, 'targets', 0, 10),
  ])
  expect(lines.at(-1)).toBe('[########--------]  block 3/4  running the float block 0/10  1.0 s left')
})

test('the time left of the text comes from the tokens written since the first run', () => {
  expect(said([10, 20, 100].map(done => ({ type: 'calibrating', done, total: 110 })))).toEqual([
    '[#---------------]  the model writes its calibration text  10/110 tokens',
    '[###-------------]  the model writes its calibration text  20/110 tokens  9.0 s left',
    '[###############-]  the model writes its calibration text  100/110 tokens  0.2 s left',
  ])
  expect(said([{ type: 'calibrating', done: 5, total: 5 }])).toHaveLength(1)
})

test('a phase without anything to do does not divide by zero', () => {
  const [line] = said([block(3, 'outputs', 0, 0)])
  expect(line).toBe('[###############-]  block 4/4  running the quantized block 0/0  0.0 s left')
})

/** Text on stderr while `use` has a status line, on a terminal of so many columns (0: none). */
function written(columns: number, use: (status: StatusLine) => void): string {
  const stream = process.stderr
  const { isTTY, columns: before, write, cursorTo, clearLine, moveCursor } = stream
  let text = ''
  Object.assign(stream, {
    isTTY: columns > 0,
    columns,
    cursorTo: () => true,
    clearLine: () => true,
    moveCursor: () => true,
    write: (chunk: unknown) => {
      text += String(chunk)
      return true
    },
  })
  try {
    const status = openStatusLine()
    use(status)
    status.stop()
  } finally {
    Object.assign(stream, { isTTY, columns: before, write, cursorTo, clearLine, moveCursor })
  }
  return text
}

test('nothing is written where nobody watches', () => {
  expect(written(0, status => status.say('working'))).toBe('')
})

test('names in lines steer no terminal', () => {
  const name = 'a\u001b]0;title\u0007\u009b2J\nb'
  const text = written(100, status => {
    status.line(name)
    status.say(name)
  })
  expect(text).toContain('a\\u001b]0;title\\u0007\\u009b2J\\u000ab\n')
  for (const steering of ['\u0007', '\u009b', '\u001b]']) expect(text).not.toContain(steering)
})
