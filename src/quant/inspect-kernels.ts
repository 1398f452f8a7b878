/** @file Kernels that a model's products take on a target: of a float model as they would be planned, of a quantized one as they are stored. */

import type { Model } from '../graph/ir.ts'
import { runtimeNeed } from './export/runtime-versions.ts'
import type { Analysis } from './find/analysis.ts'
import { findProducts } from './find/products.ts'
import type { InspectedKernel, InspectedKernels } from './inspected.ts'
import { blockPlanner } from './plan/block-planner.ts'
import { planEmbeddings } from './plan/plan-embeddings.ts'
import { plannedOuter, plannedProducts } from './plan/planned-product.ts'
import { kernelOf } from './terms/choose-kernel.ts'
import type { NamedProduct } from './terms/kernel.ts'
import { resolveOptions } from './terms/resolve-options.ts'
import { schemeName } from './terms/scheme.ts'
import type { TargetName } from './terms/targets.ts'

function withKernel(target: TargetName, product: NamedProduct): InspectedKernel {
  const { name: kernel, speed, faster, shapeWants } = kernelOf(target, product)
  return { ...product, kernel, ...(speed && { speed }), ...(faster && { faster }), shapeWants }
}

function inspected(target: TargetName, products: readonly NamedProduct[], scheme?: string): InspectedKernels {
  const onnxruntime = runtimeNeed(products)
  return {
    target,
    ...(scheme !== undefined && { scheme }),
    ...(onnxruntime && { onnxruntime }),
    products: products.map(product => withKernel(target, product)),
  }
}

/**
 * Kernels of a model.
 * @param analysis of a model that can be quantized; without one the file is described as it is.
 * @param scheme by default the target's own.
 */
export function inspectKernels(
  model: Model,
  analysis: Analysis | undefined,
  target: TargetName,
  scheme: string | undefined,
): InspectedKernels {
  if (!analysis) return inspected(target, [...findProducts(model).values()])
  const options = resolveOptions({ model: model.path!, target, scheme })
  const planOf = blockPlanner(options, analysis)
  const outer = planEmbeddings(analysis, options, options.scheme.weights.symmetric)
  const products = [
    ...analysis.blocks.flatMap(block => plannedProducts(planOf(block), options)),
    ...plannedOuter(outer, options),
  ]
  return inspected(target, products, schemeName(options.scheme))
}
