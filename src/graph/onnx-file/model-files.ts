/** @file Files of a model: the .onnx file and the data files its weights lie in. */

import { realpathSync, statSync } from 'node:fs'
import { isFileRange } from '../../files/file-range.ts'
import type { Graph, Model } from '../ir.ts'

/** The model file and the data files its weights lie in. */
export function modelFiles(model: Model): string[] {
  const files = new Set<string>([model.path!])
  const visit = (graph: Graph) => {
    for (const { tensor } of graph.initializers) if (tensor && isFileRange(tensor.data)) files.add(tensor.data.file)
    for (const node of graph.nodes) {
      for (const attribute of node.attributes.values())
        if (attribute.type === 'tensor' && isFileRange(attribute.value.data)) files.add(attribute.value.data.file)
      node.subgraphs().forEach(visit)
    }
  }
  visit(model.graph)
  return [...files]
}

/** Bytes of the model file and the data files its weights lie in; a link and what it leads to count once. */
export function modelSizeBytes(model: Model): number {
  const files = new Set(modelFiles(model).map(file => realpathSync(file)))
  return [...files].reduce((sum, file) => sum + statSync(file).size, 0)
}
