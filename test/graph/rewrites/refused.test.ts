/** @file Refusals of known ops name the node and say what it is. */

import { expect, test } from 'vitest'
import { Node } from '../../../src/graph/ir.ts'
import { RewriteBuilder } from '../../../src/graph/rewrites/rewrite-builder.ts'
import { REWRITES } from '../../../src/graph/rewrites/table.ts'
import { REFUSED_REWRITES } from '../../../src/graph/rewrites/refused.ts'

test.each(Object.keys(REFUSED_REWRITES))('%s', kind => {
  const [opType, domain = ''] =
    kind.split('.').reverse().length > 1 ? [kind.split('.').at(-1)!, 'com.microsoft'] : [kind]
  const node = new Node(opType, [], [], new Map(), domain, 'layers.0/odd')
  expect(() => REWRITES.get(kind)!(new RewriteBuilder(), node, [])).toThrow(
    expect.objectContaining({
      code: 'E_UNSUPPORTED',
      message: expect.stringMatching(/^\S+ "layers.0\/odd": (a|an|attention|sparse) .* is not supported$/) as string,
    }),
  )
})
