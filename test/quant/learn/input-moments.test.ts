/** @file Moments of what linears read are those behind the matrices of their sites. */

import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { ActivationStore } from '../../../src/calibration/activation-store.ts'
import { staticShape } from '../../../src/graph/shape.ts'
import { elementCount } from '../../../src/graph/tensor.ts'
import { spreadingMatrix } from '../../../src/kernels/orthonormal.ts'
import { analyze } from '../../../src/quant/find/analyze.ts'
import { affine } from '../../../src/quant/learn/affine.ts'
import { floatVersion, readWeights } from '../../../src/quant/learn/block-version.ts'
import { groupsOfReaders, inputMoments } from '../../../src/quant/learn/input-moments.ts'
import { ParameterVector } from '../../../src/quant/learn/parameters.ts'
import { unroundedBlock } from '../../../src/quant/learn/unrounded-block.ts'
import { affineSites, linearsReading as linearsOf } from '../../../src/quant/plan/affine-sites.ts'
import { blockPlanner } from '../../../src/quant/plan/block-planner.ts'
import { parseScheme } from '../../../src/quant/terms/scheme.ts'
import { methodOf } from '../../helpers/method.ts'
import { noStart } from '../../helpers/no-start.ts'
import { tempDir } from '../../helpers/temp-dir.ts'
import { noise } from '../../kernels/weights.ts'

const folder = tempDir()

/** a b, [n, n] each. */
function multiplied(a: ArrayLike<number>, b: ArrayLike<number>, n: number): Float64Array {
  const product = new Float64Array(n * n)
  for (let i = 0; i < n; i++)
    for (let k = 0; k < n; k++) for (let j = 0; j < n; j++) product[i * n + j]! += a[i * n + k]! * b[k * n + j]!
  return product
}

/** The symmetric matrix that a site's value starts with, [n1 n2, n1 n2]. */
function startingMatrix([n1, n2]: readonly [number, number]): Float64Array {
  const [left, right] = [spreadingMatrix(n1), spreadingMatrix(n2)]
  const n = n1 * n2
  return Float64Array.from({ length: n * n }, (_, index) => {
    const [i, j] = [Math.floor(index / n), index % n]
    return left[Math.floor(i / n2) * n1 + Math.floor(j / n2)]! * right[(i % n2) * n2 + (j % n2)]!
  })
}

test('second moments are P H P behind a matrix P', async () => {
  const analysis = await analyze(resolve(import.meta.dirname, '../../../fixtures/tiny-llama'), 8)
  const method = methodOf({ scheme: parseScheme('w4a4'), let: 'affine' })
  const plan = blockPlanner(method, analysis)(analysis.blocks[0]!)
  const sites = affineSites(plan)
  const readers = groupsOfReaders(plan, [...plan.quantizers.keys()])
  expect(readers.length).toBe(sites.length)
  const shape = staticShape(plan.block.input)
  const from = new ActivationStore(join(folder, 'x'), 1, shape)
  from.write(0, noise(elementCount(shape), 1))
  const weights = readWeights(plan.block)
  const vector = new ParameterVector(affine.parameters(plan, { ...noStart(method), matrices: new Set(sites) }))
  const { version } = await unroundedBlock(plan, weights, { vector, parameters: vector.initial() }, {})
  const momentsOf = (block: typeof version) => inputMoments(plan, block, readers, { from, of: 'products' }, {})
  const plain = await momentsOf(floatVersion(weights))
  const behind = await momentsOf({ ...version, quantized: false })
  from.remove()
  readers.forEach(([linear], i) => {
    const { factors } = sites.find(site => linearsOf(plan.block.linears, site).includes(linear!))!
    const [p, n] = [startingMatrix(factors), factors[0] * factors[1]]
    const expected = multiplied(multiplied(p, plain[i]!, n), p, n)
    const most = Math.max(...expected.map(Math.abs))
    const error = Math.max(...expected.map((value, k) => Math.abs(value - behind[i]![k]!)))
    expect(error, linear!.name).toBeLessThan(1e-4 * most)
  })
})
