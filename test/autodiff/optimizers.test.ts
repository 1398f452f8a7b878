/** @file The optimizers through their interface: AdamW is the one it always was, and all keep the interface's promises. */

import { describe, expect, test } from 'vitest'
import { adamW } from '../../src/autodiff/adamw.ts'
import { OPTIMIZER_NAMES, optimizerOf } from '../../src/autodiff/optimizers.ts'
import { joinStretches } from '../../src/autodiff/rates.ts'
import { Builder } from '../../src/graph/builder.ts'
import { print } from '../../src/graph/print.ts'
import { floatTensor, readNumbers } from '../../src/graph/tensor.ts'
import { compile } from '../../src/kernels/session.ts'
import { random } from '../helpers/check-vjp.ts'
import { runSteps, stepGraph } from './optimizer-steps.ts'

test('adamw through the interface is node for node the graph of adamW', () => {
  for (const rates of [
    [1, 1, 1, 1, 1],
    [1, 1, 3, 3, 3],
  ]) {
    const g = new Builder()
    const input = (name: string, shape: readonly number[]) => g.input(name, 'float32', shape)
    const [parameter, gradient, step, learningRate] = [
      input('p', [5]),
      input('g', [5]),
      input('t', []),
      input('lr', []),
    ]
    const [m, v] = [input('m', [5]), input('v', [5])]
    const stretches = joinStretches(rates.map(rate => ({ size: 1, rate })))
    const rate = stretches.length === 1 ? learningRate : { factor: learningRate, stretches }
    const next = adamW(g, { parameter, gradient, m, v, step, learningRate: rate })
    g.output(next.parameter, 'p_next')
    g.output(next.m, 'm_next')
    g.output(next.v, 'v_next')
    expect(print(stepGraph(optimizerOf('adamw', [2, 3]), 5, rates).graph)).toBe(print(g.graph))
  }
})

describe.each(OPTIMIZER_NAMES)('%s', name => {
  const segments = [2, 3, 3, 4]
  const size = 12
  const optimizer = optimizerOf(name, segments)
  const start = Array.from({ length: size }, (_, i) => i - 5.5)
  const next = random(3)
  const gradients = Array.from({ length: 6 }, () => start.map(() => Math.fround(next() - 0.5)))

  test('keeps state of the sizes it declares, all float32 vectors', () => {
    const { outputs } = stepGraph(optimizer, size).graph
    expect(outputs.map(({ dtype, shape }) => [dtype, shape])).toEqual([
      ['float32', [size]],
      ...optimizer.state.map(state => ['float32', [state.size]]),
    ])
    expect(new Set(optimizer.state.map(state => state.name)).size).toBe(optimizer.state.length)
  })

  test('starts with a step of the learning rate against the gradient, whatever its size', async () => {
    for (const size of [1e-3, 1, 1e6]) {
      const gradient = gradients[0]!.map(value => Math.sign(value) * size)
      const [first] = await runSteps(optimizer, { start, gradients: [gradient], learningRate: 0.25 })
      first!.parameter.forEach((value, i) => expect(value).toBeCloseTo(start[i]! - 0.25 * Math.sign(gradient[i]!), 4))
    }
  })

  test('moves each stretch by its own rate, and nothing else differs', async () => {
    const rates = start.map((_, i) => [0.01, 0.02][Math.floor(i / 3) % 2]!)
    const mixed = await runSteps(optimizer, { start, gradients, learningRate: rates })
    for (const rate of [0.01, 0.02]) {
      const one = await runSteps(optimizer, { start, gradients, learningRate: rate })
      mixed.forEach(({ parameter, state }, t) => {
        expect(state).toEqual(one[t]!.state)
        parameter.forEach((value, i) => rates[i] === rate && expect(value).toBeCloseTo(one[t]!.parameter[i]!, 6))
      })
    }
    expect(mixed.at(-1)!.parameter).not.toEqual(start)
  })

  test('a parameter of rate 0 stays where it is', async () => {
    const learningRate = start.map((_, i) => (i % 2 ? 0.01 : 0))
    // An odd number of steps: an even one of equal length may lead back.
    const last = (await runSteps(optimizer, { start, gradients: gradients.slice(1), learningRate })).at(-1)!
    last.parameter.forEach((value, i) => expect(value === start[i]).toBe(i % 2 === 0))
  })

  test('gradients of zero move nothing and leave nothing undefined', async () => {
    const zeros = gradients.map(row => row.map(() => 0))
    for (const { parameter, state } of await runSteps(optimizer, { start, gradients: zeros, learningRate: 0.1 })) {
      expect(parameter).toEqual(start)
      for (const values of Object.values(state)) expect(values.every(value => value === 0)).toBe(true)
    }
  })

  test('finds the minimum of a quadratic', async () => {
    // Half the squared distance to 1: its gradient is p - 1, written into the graph.
    const g = new Builder()
    const p = g.input('p', 'float32', [size])
    const step = g.input('t', 'float32', [])
    const state = optimizer.state.map(({ name, size }) => g.input(name, 'float32', [size]))
    const rates = { factor: g.scalar(0.02), stretches: [{ size, rate: 1 }] }
    const after = optimizer.step(g, { parameter: p, gradient: g.shift(p, -1), state, step, rates })
    g.output(after.parameter, 'p_next')
    after.state.forEach((value, i) => g.output(value, `${optimizer.state[i]!.name}_next`))
    const session = await compile(g.graph, { threads: 1 })
    let feeds = Object.fromEntries(
      optimizer.state.map(({ name, size }) => [name, floatTensor([size], Array(size).fill(0))]),
    )
    feeds.p = floatTensor(
      [size],
      start.map(value => value / 5),
    )
    for (let t = 1; t <= 600; t++) {
      const outputs = await session.run({ ...feeds, t: floatTensor([], [t]) })
      feeds = Object.fromEntries(Object.entries(outputs).map(([key, value]) => [key.replace('_next', ''), value]))
    }
    await session.release()
    for (const value of readNumbers(feeds.p!)) expect(Math.abs(value - 1)).toBeLessThan(0.02)
  })
})

describe('sign-sgd', () => {
  test('moves by the sign of the gradient alone, also of the smallest and greatest, and by nothing at zero', async () => {
    const gradient = [1e-29, -1e-29, 3e38, -3e38, 0, 2]
    const [result] = await runSteps(optimizerOf('sign-sgd', [6]), {
      start: [0, 0, 0, 0, 0, 0],
      gradients: [gradient],
      learningRate: [0.5, 0.5, 0.5, 0.25, 0.25, 0.25],
    })
    expect(result!.parameter).toEqual([-0.5, 0.5, -0.5, 0.25, 0, -0.25])
  })

  test('carries nothing and costs four nodes', () => {
    const optimizer = optimizerOf('sign-sgd', [6])
    expect(optimizer.state).toEqual([])
    expect(stepGraph(optimizer, 6).graph.nodes.map(({ opType }) => opType)).toEqual(['Mul', 'Clip', 'Mul', 'Sub'])
  })
})
