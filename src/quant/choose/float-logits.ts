/** @file The nodes behind the last block as programs: logits of the float model, and the divergence between two outputs of that block. */

import { klDivergence } from '../../autodiff/loss.ts'
import { Builder } from '../../graph/builder.ts'
import { Graph, type Value } from '../../graph/ir.ts'
import { staticShape } from '../../graph/shape.ts'
import { readElements, type Tensor } from '../../graph/tensor.ts'
import { readFloats } from '../../kernels/float16.ts'
import { compile, type Session, type SessionOptions } from '../../kernels/session.ts'
import type { Analysis } from '../find/analysis.ts'
import { findTail } from '../find/tail.ts'
import { readWeights } from '../learn/block-version.ts'
import { emitBlock } from '../learn/emit-block.ts'
import { weightInputs } from '../learn/ports.ts'

/** A program that is released when it is done. */
interface Released {
  readonly release: () => Promise<void>
}

export interface FloatLogits extends Released {
  /** Logits behind an output of the last block, float32 [1, batch, tokens, hidden] -> [batch * tokens * vocabulary]. */
  readonly of: (x: Tensor) => Promise<Float32Array>
}

export interface LogitsDivergence extends Released {
  /** Mean KL divergence of a token from what `target` leads to, to what `x` does; both as outputs of the last block. */
  readonly between: (x: Tensor, target: Tensor) => Promise<number>
}

/** A program over outputs of the last block. @param emit writes its output from the logits of each. */
async function behindBlocks(
  { working, blocks }: Pick<Analysis, 'working' | 'blocks'>,
  names: readonly string[],
  emit: (g: Builder, logits: readonly Value[]) => Value,
  session: SessionOptions,
): Promise<{ readonly program: Session; readonly dims: readonly number[] }> {
  const tail = findTail(working, blocks)
  const g = new Builder(new Graph('logits'))
  const dims = staticShape(tail.input)
  const inputs = names.map(name => g.input(name, 'float32', dims))
  const weights = weightInputs(g, tail)
  g.output(
    emit(
      g,
      inputs.map(input => emitBlock(g, tail, input, weights)),
    ),
    'result',
  )
  return { program: await compile(g.graph, session, readWeights(tail)), dims }
}

/** Logits of the float model behind its blocks. */
export async function floatLogits(
  analysis: Pick<Analysis, 'working' | 'blocks'>,
  session: SessionOptions,
): Promise<FloatLogits> {
  const emit = (g: Builder, [logits]: readonly Value[]) => g.op('Identity', [logits])
  const { program, dims } = await behindBlocks(analysis, ['x'], emit, session)
  return {
    of: async x => readFloats((await program.run({ x: { ...x, dims } }))['result']!),
    release: () => program.release(),
  }
}

/** Divergence between the logits of two outputs of the last block; norm and lm_head are those of the float model. */
export async function logitsDivergence(
  analysis: Pick<Analysis, 'working' | 'blocks'>,
  session: SessionOptions,
): Promise<LogitsDivergence> {
  const emit = (g: Builder, [x, target]: readonly Value[]) => klDivergence(g, x!, target!).loss
  const { program, dims } = await behindBlocks(analysis, ['x', 'target'], emit, session)
  return {
    between: async (x, target) => {
      const { result } = await program.run({ x: { ...x, dims }, target: { ...target, dims } })
      return Math.max(0, (readElements(result!) as Float32Array)[0]!)
    },
    release: () => program.release(),
  }
}
