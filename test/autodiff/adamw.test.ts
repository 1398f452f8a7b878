/** @file AdamW against torch and against plain TypeScript, ten steps each. */

import { describe, expect, test } from 'vitest'
import { adamW } from '../../src/autodiff/adamw.ts'
import { Builder } from '../../src/graph/builder.ts'
import { floatTensor, readNumbers, type Tensor } from '../../src/graph/tensor.ts'
import { compile } from '../../src/kernels/session.ts'

interface Settings {
  readonly learningRate: number
  readonly weightDecay: number
}

const START = [0.5, -1, 2]
const gradientAt = (t: number): number[] => START.map((_, i) => Math.fround(Math.sin(t + i) * 10 ** -i))

/** Parameters after each of ten steps, and the final moments, from the graph. */
async function runGraphSteps({ learningRate, weightDecay }: Settings, rateAsInput = false) {
  const g = new Builder()
  const input = (name: string, shape: number[] = [3]) => g.input(name, 'float32', shape)
  const next = adamW(g, {
    parameter: input('p'),
    gradient: input('g'),
    m: input('m'),
    v: input('v'),
    step: input('t', []),
    learningRate: rateAsInput ? input('lr', []) : learningRate,
    weightDecay,
  })
  g.output(next.parameter, 'p2')
  g.output(next.m, 'm2')
  g.output(next.v, 'v2')
  const session = await compile(g.graph, { threads: 1 })
  let [p, m, v]: Tensor[] = [START, [0, 0, 0], [0, 0, 0]].map(values => floatTensor([3], values))
  const parameters: number[][] = []
  for (let t = 1; t <= 10; t++) {
    const feeds: Record<string, Tensor> = {
      p: p!,
      m: m!,
      v: v!,
      g: floatTensor([3], gradientAt(t)),
      t: floatTensor([], [t]),
    }
    if (rateAsInput) feeds.lr = floatTensor([], [learningRate])
    const result = await session.run(feeds)
    ;[p, m, v] = [result.p2, result.m2, result.v2]
    parameters.push(readNumbers(p!))
  }
  await session.release()
  return { parameters, m: readNumbers(m!), v: readNumbers(v!) }
}

/** The same in float64, as the formulas are written in the torch documentation. */
function reference({ learningRate, weightDecay }: Settings): number[][] {
  const [p, m, v] = [[...START], [0, 0, 0], [0, 0, 0]]
  return Array.from({ length: 10 }, (_, index) => {
    const t = index + 1
    gradientAt(t).forEach((gradient, i) => {
      p[i] = p[i]! * (1 - learningRate * weightDecay)
      m[i] = 0.9 * m[i]! + 0.1 * gradient
      v[i] = 0.999 * v[i]! + 0.001 * gradient ** 2
      p[i]! -= (learningRate * (m[i]! / (1 - 0.9 ** t))) / (Math.sqrt(v[i]! / (1 - 0.999 ** t)) + 1e-8)
    })
    return [...p]
  })
}

// torch 2.13.0 (CPU), torch.optim.AdamW on these gradients in float32: parameters after steps 1, 2, 5 and 10, then the moments.
const TORCH = [
  {
    settings: { learningRate: 0.01, weightDecay: 0 },
    steps: {
      1: [0.49000000953674316, -1.0099999904632568, 1.9900001287460327],
      2: [0.47998732328414917, -1.0177630186080933, 1.9960877895355225],
      5: [0.46967411041259766, -1.0113455057144165, 2.014824151992798],
      10: [0.4634542763233185, -1.0146182775497437, 2.0176641941070557],
    },
  },
  {
    settings: { learningRate: 0.005, weightDecay: 0.1 },
    steps: {
      1: [0.4947499930858612, -1.0045000314712524, 1.99399995803833],
      2: [0.48949626088142395, -1.0078792572021484, 1.996046781539917],
      5: [0.4836106300354004, -1.003159761428833, 2.0024163722991943],
      10: [0.4792936444282532, -1.0022883415222168, 1.998836636543274],
    },
  },
]
const TORCH_M = [0.07403764128684998, -0.006270541809499264, -0.0014179740101099014]
const TORCH_V = [0.004976604599505663, 5.2705840062117204e-5, 4.7346330234177003e-7]

describe.each(TORCH)('AdamW with $settings', ({ settings, steps }) => {
  test('takes the steps of torch', async () => {
    const { parameters, m, v } = await runGraphSteps(settings)
    for (const [t, expected] of Object.entries(steps)) {
      // 2.5e-7: one unit in the last place of a parameter of size 2
      expected.forEach((value, i) => expect(Math.abs(parameters[Number(t) - 1]![i]! - value)).toBeLessThan(2.5e-7))
    }
    TORCH_M.forEach((value, i) => expect(m[i]! / value).toBeCloseTo(1, 5))
    TORCH_V.forEach((value, i) => expect(v[i]! / value).toBeCloseTo(1, 6))
  })

  test('takes the steps of the formulas in float64, with the learning rate as number or as input', async () => {
    const expected = reference(settings)
    for (const rateAsInput of [false, true]) {
      const { parameters } = await runGraphSteps(settings, rateAsInput)
      expected.forEach((row, t) =>
        row.forEach((value, i) => expect(Math.abs(parameters[t]![i]! - value)).toBeLessThan(1e-6)),
      )
    }
  })
})

test('bias corrections are exact in float32 from the first step to the hundred-thousandth', async () => {
  const g = new Builder()
  const t = g.input('t', 'float32', [])
  const zero = g.scalar(0)
  // lr / (1 - b1^t) * m / sqrt(v / (1 - b2^t)) with m = v = 1 after the update leaves sqrt(1 - b2^t) / (1 - b1^t).
  const next = adamW(g, {
    parameter: zero,
    gradient: g.scalar(1),
    m: g.scalar(1),
    v: g.scalar(1),
    step: t,
    learningRate: 1,
    epsilon: 0,
  })
  g.output(next.parameter, 'p')
  const session = await compile(g.graph, { threads: 1 })
  for (const step of [1, 2, 3, 10, 100, 1000, 10_000, 100_000]) {
    const { p } = await session.run({ t: floatTensor([], [step]) })
    const expected = -Math.sqrt(1 - 0.999 ** step) / (1 - 0.9 ** step)
    expect(Math.abs(readNumbers(p!)[0]! / expected - 1)).toBeLessThan(5e-7)
  }
  await session.release()
})

test('parameters share the bias corrections of their step', () => {
  const g = new Builder()
  const step = g.input('t', 'float32', [])
  const one = (name: string) => {
    const [parameter, gradient, m, v] = ['p', 'g', 'm', 'v'].map(part => g.input(`${part}_${name}`, 'float32', [2]))
    adamW(g, { parameter: parameter!, gradient: gradient!, m: m!, v: v!, step, learningRate: 0.01 })
  }
  const tanhs = () => g.graph.nodes.filter(node => node.opType === 'Tanh').length
  one('a')
  const first = g.graph.nodes.length
  expect(tanhs()).toBe(2)
  one('b')
  expect(tanhs()).toBe(2)
  expect(g.graph.nodes.length - first).toBeLessThan(first)
})
