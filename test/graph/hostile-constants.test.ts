/** @file Graphs whose constants need terabytes or years to compute, or end the process, are refused before onnxruntime runs. */

import { describe, expect, test } from 'vitest'
import { type Attribute, Graph, type LocalFunction, type Model, newModel, Node, Value } from '../../src/graph/ir.ts'
import { normalize } from '../../src/graph/passes/normalize.ts'
import { floatTensor, int64Tensor, readNumbers, type Tensor, tensorOf } from '../../src/graph/tensor.ts'
import { runGraph } from '../../src/kernels/session.ts'

const int = (value: number): Attribute => ({ type: 'int', value })

/** y = x + what `write` computes, with x [1, 4]. */
class Sum {
  readonly graph: Graph = new Graph('user')
  readonly x: Value = new Value('x', 'float32', ['batch', 4])

  constant(tensor: Tensor): Value {
    const value = new Value(`c${this.graph.initializers.length}`, tensor.dtype, tensor.dims, tensor)
    this.graph.initializers.push(value)
    return value
  }

  ints(...values: number[]): Value {
    return this.constant(int64Tensor([values.length], values))
  }

  int(value: number): Value {
    return this.constant(int64Tensor([], [value]))
  }

  op(opType: string, inputs: (Value | undefined)[], attributes: Record<string, Attribute> = {}, domain = ''): Value {
    const output = new Value(`${opType}_${this.graph.nodes.length}`)
    const name = `n${this.graph.nodes.length}`
    this.graph.nodes.push(new Node(opType, inputs, [output], new Map(Object.entries(attributes)), domain, name))
    return output
  }

  float(value: Value): Value {
    return this.op('Cast', [value], { to: int(1) })
  }

  model(term: Value): Model {
    this.graph.inputs = [this.x]
    this.graph.outputs = [this.op('Add', [this.x, this.op('ReduceSum', [term], { keepdims: int(0) })])]
    return newModel(this.graph, 18)
  }
}

/** The working copy's y for x of ones; `evaluated` counts the graphs onnxruntime was given. */
async function computed(model: Model, evaluated = { count: 0 }): Promise<number[]> {
  const output = model.graph.outputs[0]!.name
  const { graph } = await normalize(model, {
    fixedInputs: new Map(),
    shapes: new Map([['x', [1, 4]]]),
    outputs: [output],
    evaluate: constants => {
      evaluated.count++
      return runGraph(constants, {}, { optimization: 'disabled', threads: 1 })
    },
  })
  const [y] = Object.values(await runGraph(graph, { x: floatTensor([1, 4], [1, 1, 1, 1]) }))
  return readNumbers(y!)
}

const one = (s: Sum) => s.constant(floatTensor([1], [1]))

/** Bombs: how the term is written. */
const BOMBS: [string, (s: Sum) => Value][] = [
  ['Expand to 2 TB', s => s.op('Expand', [one(s), s.ints(2 ** 39)])],
  ['ConstantOfShape', s => s.op('ConstantOfShape', [s.ints(2 ** 20, 2 ** 19)])],
  ['Range', s => s.float(s.op('Range', [s.int(0), s.int(2 ** 38), s.int(1)]))],
  ['Tile', s => s.op('Tile', [one(s), s.ints(2 ** 38)])],
  ['Pad', s => s.op('Pad', [one(s), s.ints(2 ** 38, 2 ** 38)])],
  ['OneHot', s => s.op('OneHot', [s.ints(1, 2), s.int(2 ** 38), s.constant(floatTensor([2], [0, 1]))])],
  [
    'Concat, doubled 36 times',
    s => Array.from({ length: 36 }).reduce<Value>(value => s.op('Concat', [value, value], { axis: int(0) }), one(s)),
  ],
  [
    'an outer product',
    s => s.op('Mul', [s.op('Expand', [one(s), s.ints(2 ** 20, 1)]), s.op('Expand', [one(s), s.ints(2 ** 20)])]),
  ],
  [
    'many of middle size',
    s => {
      const parts = Array.from({ length: 200 }, (_, i) => s.op('Expand', [one(s), s.ints(2 ** 21 + i)]))
      // Kept apart until the end, all of them are alive at once.
      return s.op(
        'Sum',
        parts
          .map(part => s.op('ReduceSum', [s.op('Exp', [part])], { keepdims: int(0) }))
          .concat(s.op('Concat', parts, { axis: int(0) })),
      )
    },
  ],
  [
    'a chain of matrix products, which takes no memory but hours',
    s => {
      const square = s.op('Expand', [one(s), s.ints(2000, 2000)])
      return Array.from({ length: 1000 }).reduce<Value>(value => s.op('MatMul', [value, square]), square)
    },
  ],
  [
    'a chain of elementwise work',
    s =>
      Array.from({ length: 2000 }).reduce<Value>(
        value => s.op('Sin', [value]),
        s.op('Expand', [one(s), s.ints(2 ** 22)]),
      ),
  ],
]

describe('constants that would fill the memory', () => {
  test.each(BOMBS)('%s', async (_, write) => {
    const s = new Sum()
    const evaluated = { count: 0 }
    await expect(computed(s.model(write(s)), evaluated)).rejects.toMatchObject({
      code: 'E_TOO_LARGE',
      message: expect.stringMatching(
        /constants that the graph computes need .* GB .* the largest is "\w+" \[[\d, ]+\]/,
      ),
    })
    // At most a small graph: sizes that another one needs.
    expect(evaluated.count).toBeLessThanOrEqual(1)
  })

  test.each([
    ['Expand', (s: Sum) => s.op('Expand', [one(s), s.ints(2 ** 40, 2 ** 40)])],
    ['ConstantOfShape with a negative size', (s: Sum) => s.op('ConstantOfShape', [s.ints(-5)])],
    ['Range without a step', (s: Sum) => s.float(s.op('Range', [s.int(0), s.int(5), s.int(0)]))],
    ['Tile with a negative count', (s: Sum) => s.op('Tile', [one(s), s.ints(-1)])],
  ])('dims that no tensor can have: %s', async (_, write) => {
    const s = new Sum()
    const refused = { code: 'E_TOO_LARGE', message: expect.stringContaining('makes a tensor of impossible dims [') }
    await expect(computed(s.model(write(s)))).rejects.toMatchObject(refused)
  })

  test('what decoders compute is computed: a mask of 2048 tokens', async () => {
    const s = new Sum()
    const rows = s.op('Range', [s.int(0), s.int(2048), s.int(1)])
    const mask = s.op('LessOrEqual', [rows, s.op('Unsqueeze', [rows, s.ints(1)])])
    expect(await computed(s.model(s.float(mask)))).toEqual(Array(4).fill(1 + (2048 * 2049) / 2))
  })
})

describe('what would end the process', () => {
  const lowest = int64Tensor([], [0])
  new DataView(lowest.data instanceof Uint8Array ? lowest.data.buffer : new ArrayBuffer(8)).setBigInt64(
    0,
    -(2n ** 63n),
    true,
  )

  test.each(['Div', 'Mod'])('%s of the lowest integer by -1, known or computed', async op => {
    const known = new Sum()
    const refused = { code: 'E_NOT_ONNX', message: `${op} "n0" divides ${-(2 ** 63)} by -1, which overflows` }
    await expect(
      computed(known.model(known.float(known.op(op, [known.constant(lowest), known.int(-1)])))),
    ).rejects.toMatchObject(refused)
    const later = new Sum()
    const minus = later.op('Neg', [later.int(1)])
    const quotient = later.op(op, [later.op('Add', [later.constant(lowest), later.int(0)]), minus])
    await expect(computed(later.model(later.float(quotient)))).rejects.toThrow(`${op} "n2" divides`)
  })

  test('other integers are divided by -1, and by what is computed', async () => {
    const s = new Sum()
    const quotient = s.op('Div', [s.op('Add', [s.int(5), s.int(1)]), s.op('Neg', [s.int(1)])])
    expect(await computed(s.model(s.float(quotient)))).toEqual([-5, -5, -5, -5])
  })

  test('integers divided by what depends on the tokens', async () => {
    const s = new Sum()
    const whole = s.op('Cast', [s.x], { to: int(7) })
    await expect(computed(s.model(s.float(s.op('Div', [s.int(5), whole]))))).rejects.toThrow(
      'input 1 of Div "n1" must be constant',
    )
  })

  test('constants of types that onnxruntime-node cannot hand over', async () => {
    const s = new Sum()
    const nibbles: Tensor = { dtype: 'int4', dims: [2], data: Uint8Array.of(0x21) }
    const value = s.op('Cast', [s.constant(nibbles)], { to: int(1) })
    expect(await computed({ ...s.model(value), opsetImports: [{ domain: '', version: 21 }] })).toEqual([4, 4, 4, 4])
    const session = new Sum()
    const four = session.op('Cast', [session.ints(1, 2)], { to: int(22) })
    four.dtype = 'int4'
    session.graph.outputs = [four]
    await expect(runGraph(session.graph, {}, { optimization: 'disabled' })).rejects.toThrow(
      'onnxruntime cannot hand over the output "Cast_0" of type int4',
    )
  })
})

describe('nodes that are not as their operator demands', () => {
  const eye = (n: number) =>
    floatTensor(
      [n, n],
      Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0)),
    )
  test.each<[string, (s: Sum) => Value, string]>([
    [
      'types that differ',
      s => s.op('MatMul', [s.x, s.constant(tensorOf('int32', [4, 4], new Int32Array(16)))]),
      'inputs are of types float32 and int32',
    ],
    [
      'shapes that do not broadcast',
      s => s.op('Mul', [s.x, s.constant(floatTensor([3], [1, 2, 3]))]),
      'shapes do not broadcast: [1, 4] with [3]',
    ],
    [
      'products of other sizes',
      s => s.op('MatMul', [s.x, s.constant(eye(3))]),
      '[1, 4] cannot be multiplied with [3, 3]',
    ],
    ['an axis that is not there', s => s.op('Softmax', [s.x], { axis: int(9) }), 'axis 9 does not exist in rank 2'],
    [
      'an order that is none',
      s => s.op('Transpose', [s.x], { perm: { type: 'ints', value: [0, 0] } }),
      '[0, 0] is no order of 2 axes',
    ],
    [
      'parts that do not fit',
      s => s.op('Concat', [s.x, s.constant(eye(3))], { axis: int(0) }),
      'shapes cannot be joined along axis 0',
    ],
    ['a shape of other size', s => s.op('Reshape', [s.x, s.ints(3, 3)]), 'cannot reshape [1, 4] to [3, 3]'],
    ['pads of other number', s => s.op('Pad', [s.x, s.ints(1)]), '1 pads do not fit 2 axes'],
    ['no repeats', s => s.op('Tile', [s.x, s.ints(1)]), '1 repeats do not fit'],
    [
      'parts of a split',
      s => s.op('Split', [s.x, s.ints(2, 3)], { axis: int(1) }),
      'parts of [2, 3] do not fill axis 1',
    ],
  ])('%s', async (_, write, reason) => {
    const s = new Sum()
    await expect(computed(s.model(write(s)))).rejects.toMatchObject({
      code: 'E_NOT_ONNX',
      message: expect.stringMatching(/^\w+ "n0" is not possible with inputs \[1, 4\]/),
    })
    await expect(computed(s.model(write(new Sum())))).rejects.toThrow()
    const again = new Sum()
    await expect(computed(again.model(write(again)))).rejects.toThrow(reason)
  })

  test('an input that is not there', async () => {
    const s = new Sum()
    await expect(computed(s.model(s.op('Mul', [s.x, undefined])))).rejects.toThrow(
      'lacks its input 1 (Mul "n0" of the model)',
    )
  })

  test('bodies on an operator that has none', async () => {
    const s = new Sum()
    const body: Attribute = { type: 'graph', value: new Graph('body') }
    await expect(computed(s.model(s.op('Softmax', [s.x], { body })))).rejects.toThrow('Softmax "n0" has bodies')
  })

  test('a branch with fewer results than its If', async () => {
    const s = new Sum()
    const flag = s.constant(tensorOf('bool', [], Uint8Array.of(1)))
    const body: Attribute = { type: 'graph', value: new Graph('empty') }
    const y = s.op('If', [flag], { then_branch: body, else_branch: body })
    await expect(computed(s.model(y))).rejects.toThrow('If "n0" has 1 outputs, but "empty" makes 0')
  })
})

describe('functions', () => {
  /** Functions f0 .. f(n - 1), each of which calls the one before it `calls` times. */
  function nested(n: number, calls: number): Map<string, LocalFunction> {
    const of = (i: number): LocalFunction => {
      const body = new Graph(`f${i}`)
      let value = new Value('x')
      body.inputs = [value]
      for (let c = 0; c < calls; c++) {
        const next = new Value(`v${c}`)
        body.nodes.push(
          i === 0 ? new Node('Neg', [value], [next]) : new Node(`f${i - 1}`, [value], [next], new Map(), 'own'),
        )
        value = next
      }
      body.outputs = [value]
      return { body, defaults: new Map(), opset: 18 }
    }
    return new Map(Array.from({ length: n }, (_, i) => [`own.f${i}`, of(i)]))
  }

  test('that double what they call are given up, not written out', async () => {
    const s = new Sum()
    const model = { ...s.model(s.op('f39', [s.x], {}, 'own')), functions: nested(40, 2) }
    await expect(computed(model)).rejects.toMatchObject({
      code: 'E_TOO_LARGE',
      message: 'with its functions written out, as far as own.f39 "n0", the graph has more than 524288 nodes',
    })
  })

  test('that call each other without end in sight', async () => {
    const s = new Sum()
    const model = { ...s.model(s.op('f4999', [s.x], {}, 'own')), functions: nested(5000, 1) }
    await expect(computed(model)).rejects.toMatchObject({
      code: 'E_TOO_LARGE',
      message: 'functions call functions deeper than 64, the last own.f4935',
    })
  })

  test('nested as modules are, are written out', async () => {
    const s = new Sum()
    const model = { ...s.model(s.op('f9', [s.x], {}, 'own')), functions: nested(10, 2) }
    expect(await computed(model)).toEqual([5, 5, 5, 5])
  })
})
