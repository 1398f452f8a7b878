/**
 * @file Costs of a step of learning, counted from the training program of a Llama block: launches, products, bytes, sums that wait for
 * the host. Nothing is run, and no weight is in memory.
 *
 *     node bench/program-costs.js [--hidden 4096] [--ffn 11008] [--heads 32] [--tokens 2048] [--json] [SCHEME ...]
 *
 * SCHEME is w4a16g128, w2a16g64 or w4a4, `+let` with transformations, `+rounding` with learned rounding, `+sign-sgd` or another
 * optimizer. By default all that are worth comparing. bench/graph-costs.js says what is counted.
 */

import { parseArgs } from 'node:util'
import { OPTIMIZER_NAMES, optimizerOf } from '../dist/autodiff/optimizers.js'
import { ChannelRanges } from '../dist/quant/learn/channel-ranges.js'
import { blockParameters } from '../dist/quant/learn/learnables.js'
import { trainingProgram } from '../dist/quant/learn/training-program.js'
import { planBlock } from '../dist/quant/plan/plan-block.js'
import { parseScheme } from '../dist/quant/terms/scheme.js'
import { trainingCosts } from './graph-costs.js'
import { showHelp } from './help.js'
import { llamaBlock } from './llama-block.js'

showHelp(import.meta.filename)

const { values: given, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    hidden: { type: 'string', default: '4096' },
    ffn: { type: 'string', default: '11008' },
    heads: { type: 'string', default: '32' },
    tokens: { type: 'string', default: '2048' },
    json: { type: 'boolean', default: false },
  },
})
const [hidden, ffn, heads, tokens] = [given.hidden, given.ffn, given.heads, given.tokens].map(Number)
const block = llamaBlock({ hidden, ffn, width: hidden / heads, tokens, numbers: false })

/** Name of what a node with so many elements works on. */
function kindOf(count) {
  if (count === heads * tokens * tokens) return 'scores'
  if ([hidden * hidden, hidden * ffn].includes(count)) return 'weights'
  // All the offsets of a block lie one after the other in one vector.
  if (count >= 4 * hidden * hidden + 3 * hidden * ffn) return 'weights'
  return 'tokens'
}

/** Training program of "w4a16g128+let". */
function programOf(text) {
  const [schemeText, ...extras] = text.split('+')
  const scheme = parseScheme(schemeText)
  const values = new Map(block.nodes.flatMap(node => [...node.inputs, ...node.outputs].map(value => [value, value])))
  const plan = planBlock(block, { scheme, accuracyLevel: 0, let: extras.includes('let'), values })
  const method = {
    ...{ scheme, lwc: true, let: extras.includes('let'), learningRate: 1e-2, letLearningRate: 5e-3 },
    ...{ rounding: extras.includes('rounding') ? 'learned' : 'nearest', roundingLearningRate: 1e-2, alpha: 0.5 },
  }
  const vector = blockParameters(plan, { method, frozen: new Set(), ranges: new ChannelRanges(), weights: {} })
  const optimizer = OPTIMIZER_NAMES.find(name => extras.includes(name)) ?? 'adamw'
  return trainingProgram(plan, vector, optimizerOf(optimizer, vector.segments))
}

const SCHEMES = ['w4a16g128', 'w2a16g64', 'w4a4+let', 'w4a16g128+rounding', 'w2a16g64+rounding']
const gigabytes = bytes => (bytes / 1e9).toFixed(1)

const rows = (positionals.length > 0 ? positionals : SCHEMES).map(text => {
  const { step, once } = trainingCosts(programOf(text), kindOf)
  // The condition of the Loop is the one number that the host reads in a step.
  return { scheme: text, ...step, waits: 1, once: once.launches + once.products }
})
if (given.json) console.log(JSON.stringify(rows, null, 2))
else {
  console.log(`Per step of a block with hidden ${hidden}, ffn ${ffn}, ${heads} heads, ${tokens} tokens:\n`)
  console.log(
    '| program | kernels | products, of them sums | waits | TFLOP | GB | weights (passes) | scores | tokens | once a run |',
  )
  console.log('| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |')
  for (const { scheme, launches, products, sums, waits, flops, bytes, passes, once } of rows) {
    const total = gigabytes(Object.values(bytes).reduce((a, b) => a + b, 0))
    const part = kind => `${gigabytes(bytes[kind] ?? 0)} (${passes[kind] ?? 0})`
    console.log(
      `| ${scheme} | ${launches} | ${products}, ${sums} | ${waits} | ${(flops / 1e12).toFixed(2)} | ${total} | ${part('weights')} | ${part('scores')} | ${part('tokens')} | ${once} |`,
    )
  }
}
