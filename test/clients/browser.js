/**
 * @file transformers.js in headless Chromium, on WebAssembly or WebGPU. Needs @huggingface/transformers and puppeteer-core in the folder
 * it is run from, and a Chromium.
 *
 *     node test/clients/browser.js OUT wasm|webgpu [/usr/bin/chromium]
 */

import { createRequire } from 'node:module'
import { createReadStream, existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { createServer } from 'node:http'
import { dirname, extname, join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { compare } from './greedy.js'

const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript', '.wasm': 'application/wasm' }

/** Serves a page, the packages and the models, from this machine only. @returns its port */
async function serve(places) {
  const server = createServer((request, response) => {
    const [, place, ...rest] = decodeURIComponent(new URL(request.url, 'http://x').pathname).split('/')
    // Threads of WebAssembly need a page that is isolated from others.
    response.setHeader('Cross-Origin-Opener-Policy', 'same-origin')
    response.setHeader('Cross-Origin-Embedder-Policy', 'require-corp')
    response.setHeader('Content-Type', TYPES[extname(rest.at(-1) ?? '')] ?? 'application/octet-stream')
    if (place === 'page.html') {
      response.setHeader('Content-Type', 'text/html')
      return response.end('<!doctype html><title>client</title>')
    }
    const path = places[place] && join(places[place], ...rest)
    if (!path || !existsSync(path) || !statSync(path).isFile()) return response.writeHead(404).end()
    response.setHeader('Content-Length', statSync(path).size)
    return request.method === 'HEAD' ? response.end() : createReadStream(path).pipe(response)
  })
  await new Promise(done => server.listen(0, '127.0.0.1', done))
  return { port: server.address().port, close: () => server.close() }
}

/** Runs in the page. */
async function inPage({ name, dtype, device, prompt, count }) {
  const { AutoModelForCausalLM, env, Tensor } = await import('/transformers/transformers.js')
  env.localModelPath = '/models/'
  env.allowLocalModels = true
  env.allowRemoteModels = false
  env.useBrowserCache = false
  env.backends.onnx.wasm.wasmPaths = '/ort/'
  const model = await AutoModelForCausalLM.from_pretrained(name, { dtype, device })
  const tensor = values => new Tensor('int64', BigInt64Array.from(values, BigInt), [1, values.length])
  const inputs = () => ({ input_ids: tensor(prompt), attention_mask: tensor(prompt.map(() => 1)) })
  const { logits } = await model(inputs())
  const data = logits.data ?? (await logits.getData())
  const row = [...data].slice(-logits.dims.at(-1)).map(Number)
  const generated = await model.generate({ ...inputs(), max_new_tokens: count, do_sample: false })
  const tokens = [...generated.data].slice(prompt.length).map(Number)
  await model.dispose()
  return { logits: row, tokens, version: env.version }
}

/** Runs in the page: the graphics device. */
async function adapterOf() {
  const adapter = await navigator.gpu?.requestAdapter()
  return adapter ? `${adapter.info.vendor} ${adapter.info.architecture}` : 'no WebGPU adapter'
}

const dtypeOf = model => {
  const suffix = /_(\w+)\.onnx$/.exec(model)[1]
  return suffix === 'quantized' ? 'q8' : suffix
}

const [given, device = 'wasm', chromium = '/usr/bin/chromium'] = process.argv.slice(2)
const out = resolve(given)
const require = createRequire(pathToFileURL(join(process.cwd(), 'x.js')))
const { default: puppeteer } = await import(pathToFileURL(require.resolve('puppeteer-core')).href)
const server = await serve({
  models: out,
  transformers: dirname(require.resolve('@huggingface/transformers')),
  // The version that transformers.js was built with.
  ort: dirname(require.resolve('onnxruntime-web')),
})
const browser = await puppeteer.launch({
  executablePath: chromium,
  headless: true,
  // WebGPU in software takes minutes.
  protocolTimeout: 0,
  args: [
    '--no-sandbox',
    '--enable-unsafe-webgpu',
    '--enable-features=Vulkan,WebGPU',
    '--use-vulkan=swiftshader',
    '--use-webgpu-adapter=swiftshader',
    '--ignore-gpu-blocklist',
  ],
})
let agree = true
try {
  console.log(`${await browser.version()}, ${device}`)
  const cases = readdirSync(out).filter(
    name => !name.startsWith('genai') && existsSync(join(out, name, 'reference.json')),
  )
  for (const name of cases.sort()) {
    const reference = JSON.parse(readFileSync(join(out, name, 'reference.json'), 'utf8'))
    const page = await browser.newPage()
    page.on('console', message => message.type() === 'error' && console.error(message.text().slice(0, 500)))
    await page.goto(`http://127.0.0.1:${server.port}/page.html`)
    if (device === 'webgpu') console.log(await page.evaluate(adapterOf))
    try {
      const { prompt, tokens, model } = reference
      const result = await page.evaluate(inPage, { name, dtype: dtypeOf(model), device, prompt, count: tokens.length })
      const { agrees, line } = compare(reference, result)
      agree &&= agrees
      console.log(`${line}: ${name} (transformers.js ${result.version})`)
    } catch (error) {
      agree = false
      console.log(`FAIL ${name}: ${String(error.message).slice(0, 300)}`)
    }
    await page.close().catch(() => {})
  }
} finally {
  await browser.close()
  server.close()
}
process.exitCode = agree ? 0 : 1
