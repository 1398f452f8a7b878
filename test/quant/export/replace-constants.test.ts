/** @file Constants are changed for the reader that is named; everybody else's stay, and what nobody reads goes. */

import { describe, expect, test } from 'vitest'
import { Node, Value } from '../../../src/graph/ir.ts'
import { readElements, tensorOf } from '../../../src/graph/tensor.ts'
import { fromFloat16Bits, readFloats } from '../../../src/kernels/float16.ts'
import { replaceConstants } from '../../../src/quant/export/replace-constants.ts'
import { tempDir } from '../../helpers/temp-dir.ts'
import { runModel, UserGraph } from './user-graph.ts'

const folder = tempDir()
const C = 4
const gain = Float32Array.of(1, 2, 3, 4)
const data = Float32Array.of(0.5, -1, 8, 0.25)
const x = tensorOf('float32', [1, C], Float32Array.of(1, 1, 1, 1))

/** x * gain, twice, with the same gain. */
function sharedGain(dtype: 'float32' | 'float16' = 'float32') {
  const user = new UserGraph({ dtype })
  const input = user.input('x', [1, C])
  const value = user.constant('gain', [1, C], gain)
  const nodes = ['a', 'b'].map(name => {
    const y = user.op('Mul', [input, value], name)
    user.output(y, `${name}_out`)
    return y.producer!
  })
  return { user, nodes: nodes as [Node, Node] }
}

describe('replaceConstants', () => {
  test.each(['float32', 'float16'] as const)('leaves other readers of a %s constant alone', async dtype => {
    const { user, nodes } = sharedGain(dtype)
    replaceConstants(user.model, [{ node: nodes[1], input: 1, data }])
    const { a_out, b_out } = await runModel(user.model, { x }, folder)
    expect([...a_out!]).toEqual([...gain])
    expect([...b_out!]).toEqual([...data])
    const { tensor } = nodes[1].inputs[1]!
    expect(tensor).toMatchObject({ dtype, dims: [1, C] })
    if (dtype === 'float16') expect([...fromFloat16Bits(readElements(tensor!) as Uint16Array)]).toEqual([...data])
  })

  test('drops what nobody reads any more', () => {
    const { user, nodes } = sharedGain()
    replaceConstants(
      user.model,
      nodes.map(node => ({ node, input: 1, data })),
    )
    expect(user.graph.initializers.map(({ name }) => name)).toEqual(['gain_transformed', 'gain_transformed_1'])
  })

  test('takes the place of Constant nodes and of what is behind a Cast', async () => {
    const user = new UserGraph()
    const input = user.input('x', [1, C])
    const constant = new Value('constant', undefined)
    const tensor = tensorOf('float32', [C], gain)
    user.graph.nodes.push(new Node('Constant', [], [constant], new Map([['value', { type: 'tensor', value: tensor }]])))
    const wide = new Value('wide', 'float64', [C], tensorOf('float64', [C], Float64Array.from(gain)))
    user.graph.initializers.push(wide)
    const cast = user.op('Cast', [wide], 'cast', { to: 1 })
    const nodes = [constant, cast].map((value, i) => {
      const y = user.op('Mul', [input, value], `mul${i}`)
      user.output(y, `y${i}`)
      return y.producer!
    })
    replaceConstants(
      user.model,
      nodes.map(node => ({ node, input: 1, data })),
    )
    expect(user.graph.nodes.map(({ opType }) => opType)).toEqual(['Mul', 'Identity', 'Mul', 'Identity'])
    expect(user.graph.initializers.map(({ dtype }) => dtype)).toEqual(['float32', 'float32'])
    const { y0, y1 } = await runModel(user.model, { x }, folder)
    expect([...y0!, ...y1!]).toEqual([...data, ...data])
  })

  test('keeps a bfloat16 constant bfloat16', () => {
    const { user, nodes } = sharedGain()
    nodes[0].inputs[1] = new Value('brain', 'bfloat16', [C], tensorOf('bfloat16', [C], new Uint16Array(C)))
    replaceConstants(user.model, [{ node: nodes[0], input: 1, data }])
    const { tensor } = nodes[0].inputs[1]
    expect(tensor).toMatchObject({ dtype: 'bfloat16', dims: [C] })
    expect([...readFloats(tensor!)]).toEqual([...data])
  })

  test('refuses numbers float16 cannot hold', () => {
    const { user, nodes } = sharedGain('float16')
    const large = Float32Array.of(1, 65505, 1, 1)
    expect(() => replaceConstants(user.model, [{ node: nodes[0], input: 1, data: large }])).toThrow('beyond 65504')
  })

  test('refuses data of another size, and inputs that are computed', () => {
    const { user, nodes } = sharedGain()
    const short = data.subarray(1)
    expect(() => replaceConstants(user.model, [{ node: nodes[0], input: 1, data: short }])).toThrow('3 numbers')
    const computed = user.op('Neg', [nodes[0].outputs[0]!], 'computed')
    const reader = user.op('Mul', [computed, computed], 'reader').producer!
    expect(() => replaceConstants(user.model, [{ node: reader, input: 1, data }])).toThrow('unknown')
  })
})
