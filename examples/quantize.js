// Quantizes a model, shows progress, and stops at Ctrl-C: finished blocks stay, and the next start goes on from there.
//   node examples/quantize.js [MODEL] [OUTPUT]
import { quantize, QuantError } from 'omniquant'

const bundled = new URL('../fixtures/tiny-llama', import.meta.url).pathname
const [model = bundled, output = 'quantized/model.onnx'] = process.argv.slice(2)

const controller = new AbortController()
process.once('SIGINT', () => controller.abort())

try {
  const report = await quantize(
    // Few samples, for a quick look. Without them the preset decides.
    { model, output, scheme: 'w4a16', samples: 8, seqLen: 64, epochs: 2 },
    {
      signal: controller.signal,
      onProgress: event => {
        if (event.type === 'analyzed') console.log(`${event.blocks} blocks, ${event.linears} linears`)
        if (event.type === 'blockDone') console.log(`block ${event.report.index + 1} of ${event.blocks} is done`)
      },
    },
  )
  console.log(`${report.sizeBefore} bytes -> ${report.sizeAfter} bytes: ${report.output}`)
} catch (error) {
  if (!(error instanceof QuantError)) throw error
  console.error(`${error.code}: ${error.message}`)
  if (error.hint) console.error(error.hint)
  process.exitCode = error.code === 'E_INTERRUPTED' ? 130 : 1
}
