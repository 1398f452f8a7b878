/** @file Greedy decoding with any onnxruntime for JavaScript, and the comparison of two results. */

/** Tensors of an empty cache, by the declared inputs of the session; genai's files leave the last dimension open. */
function emptyCache(ort, session, headSize) {
  const feeds = {}
  for (const { name, type, shape } of session.inputMetadata) {
    if (!name.startsWith('past_key_values.')) continue
    const dims = shape.map((size, axis) => {
      if (axis === 0) return 1
      return typeof size === 'number' ? size : axis === 3 ? headSize : 0
    })
    feeds[name] = new ort.Tensor(type, type === 'float16' ? new Uint16Array(0) : new Float32Array(0), dims)
  }
  return feeds
}

/** Feeds for tokens behind `past` others. */
function feedsFor(ort, session, tokens, past) {
  const ids = values => BigInt64Array.from(values, BigInt)
  const count = tokens.length
  const all = {
    input_ids: new ort.Tensor('int64', ids(tokens), [1, count]),
    attention_mask: new ort.Tensor('int64', ids(new Array(past + count).fill(1)), [1, past + count]),
    position_ids: new ort.Tensor('int64', ids(tokens.map((_, i) => past + i)), [1, count]),
  }
  return Object.fromEntries(Object.entries(all).filter(([name]) => session.inputNames.includes(name)))
}

/** The two largest elements: index of the first, and the distance. */
function best(row) {
  let [top, second, index] = [-Infinity, -Infinity, 0]
  row.forEach((value, i) => {
    if (value > top) [top, second, index] = [value, top, i]
    else if (value > second) second = value
  })
  return { index, margin: top - second }
}

/**
 * The most probable continuation of a prompt, with key and value caches.
 * @param ort a module with `Tensor`. @param session of a decoder with inputs named as optimum names them.
 * @param headSize channels of a head, for files that do not say it. @returns tokens; logits of the last token of the prompt; the distance between first and second choice of each token.
 */
export async function greedy(ort, session, prompt, count, headSize = 0) {
  let cache = emptyCache(ort, session, headSize)
  let next = prompt
  let past = 0
  let logits
  const margins = []
  const tokens = []
  while (tokens.length < count) {
    const outputs = await session.run({ ...feedsFor(ort, session, next, past), ...cache })
    const { data, dims } = outputs.logits
    const row = Float32Array.from(data.subarray(data.length - dims.at(-1)))
    logits ??= [...row]
    const choice = best(row)
    margins.push(choice.margin)
    past += next.length
    next = [choice.index]
    tokens.push(choice.index)
    cache = Object.fromEntries(
      Object.keys(cache).map(name => [name, outputs[name.replace('past_key_values', 'present')]]),
    )
  }
  return { tokens, logits, margins }
}

/** Largest difference of logits a client may show, as a share of their range. */
export const TOLERANCE = 0.01

/**
 * Compares a client's result with the reference. Tokens are compared as far as the client went on (it may stop at an end of text), and up
 * to a tie: a choice that the reference made by less than the difference of the two logits involved, as measured at the prompt.
 * @returns a line for people, and true where they agree.
 */
export function compare(reference, { tokens, logits }) {
  const range = Math.max(...reference.logits) - Math.min(...reference.logits)
  const difference = Math.max(...reference.logits.map((value, i) => Math.abs(value - logits[i])))
  const other = tokens.findIndex((token, i) => token !== reference.tokens[i])
  const isTie = other > 0 && reference.margins[other] < 2 * difference
  const agrees = tokens.length > 0 && (other === -1 || isTie) && difference <= TOLERANCE * range
  const equal = other === -1 ? `${tokens.length} tokens equal` : `${other} of ${tokens.length} tokens equal`
  const tie = isTie ? `, then a tie (margin ${reference.margins[other].toFixed(4)})` : ''
  const line = `${equal}${tie}, logits differ by ${(difference / range).toExponential(1)} of their range`
  return { agrees, line: `${agrees ? 'ok  ' : 'FAIL'} ${line}` }
}
