// Measures a quantized model against the float one, and fails (exit code 1) where it is too far away: a gate for CI.
//   node examples/evaluate.js QUANTIZED FLOAT TEXT [MOST]
import { evaluate } from 'omniquant'

const bundled = name => new URL(`../fixtures/tiny-llama${name}`, import.meta.url).pathname
const [model = bundled(''), against = bundled(''), text = bundled('/eval.txt'), most = '0.05'] = process.argv.slice(2)

const { perplexity, ratio, divergence } = await evaluate({ model, against, text, windows: 8 })

console.log(`perplexity ${perplexity.toFixed(3)}, ${ratio.toFixed(3)} times that of the float model`)
console.log(
  `KL divergence ${divergence.klMean.toFixed(5)}, same likeliest token ${(100 * divergence.sameTop).toFixed(1)} %`,
)
if (divergence.klMean > Number(most)) {
  console.error(`a mean KL divergence above ${most}`)
  process.exitCode = 1
}
