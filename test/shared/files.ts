/**
 * @file Contents of each folder of ../shared, counted by hand from ../shared/design/exporters.md. Tests of real files go through
 * this list.
 */

import { join } from 'node:path'
import { sharedDir } from '../helpers/shared.ts'

export interface SharedFile {
  readonly blocks: number
  /** Linears of each block. */
  readonly linears: number
  /** The file takes and gives back keys and values. */
  readonly cache: boolean
  /** Each block has a router, which stays float. */
  readonly routers?: true
  /** CPU kernels refuse it. */
  readonly runs?: false
}

/** q, k, v, o, gate, up, down. */
const SEPARATE = 7
/** q, k and v in one product. */
const PACKED = 5
/** q, k, v, o and two of the MLP; or qkv, o and two of the MLP. */
const [PLAIN, PACKED_PLAIN] = [6, 4]

const twoLayers = (linears: number, cache = true): SharedFile => ({ blocks: 2, linears, cache })

/** Folder under ../shared, or file -> its contents. */
export const FILES: Readonly<Record<string, SharedFile>> = {
  'models/wiki-llama/optimum-past': { blocks: 4, linears: SEPARATE, cache: true },
  'models/wiki-llama/optimum-nopast': { blocks: 4, linears: SEPARATE, cache: false },
  'models/wiki-llama/genai-fp32': { blocks: 4, linears: PACKED, cache: true },
  'models/wiki-llama/genai-fp16': { blocks: 4, linears: PACKED, cache: true },
  'models/wiki-opt/optimum-past': { blocks: 3, linears: PLAIN, cache: true }, // fc1 and fc2 are Gemm
  'zoo/dynamo-gpt2': twoLayers(PACKED_PLAIN), // all Gemm
  'zoo/dynamo-llama-opset20': twoLayers(SEPARATE, false),
  'zoo/dynamo-llama-opset23': twoLayers(SEPARATE, false),
  'zoo/dynamo-llama-tied': twoLayers(SEPARATE, false),
  // qkv, o; gate_up and down of 4 experts, in one node
  'zoo/genai-gptoss': { ...twoLayers(10), routers: true },
  'zoo/genai-llama-dml': twoLayers(SEPARATE),
  'zoo/genai-llama-fp16': twoLayers(PACKED),
  'zoo/genai-llama-fp32': twoLayers(PACKED),
  'zoo/genai-llama-tied': twoLayers(PACKED),
  'zoo/genai-phi2': { ...twoLayers(PACKED_PLAIN), runs: false }, // rotary width 4
  'zoo/genai-qwen3': twoLayers(PACKED),
  'zoo/mobius-llama': twoLayers(SEPARATE),
  'zoo/optimum-bloom': twoLayers(PACKED_PLAIN),
  'zoo/optimum-falcon': twoLayers(PACKED_PLAIN),
  'zoo/optimum-gemma2-eager': twoLayers(SEPARATE),
  'zoo/optimum-gpt2': twoLayers(PACKED_PLAIN), // all Gemm
  'zoo/optimum-gptneox': twoLayers(PACKED_PLAIN),
  'zoo/optimum-llama-eager': twoLayers(SEPARATE),
  'zoo/optimum-llama-external': twoLayers(SEPARATE),
  'zoo/optimum-llama-fp16': twoLayers(SEPARATE),
  'zoo/optimum-llama-nopast': twoLayers(SEPARATE, false),
  'zoo/optimum-llama-opset14': twoLayers(SEPARATE),
  'zoo/optimum-llama-past': twoLayers(SEPARATE),
  'zoo/optimum-llama-tied': twoLayers(SEPARATE),
  'zoo/optimum-merged': twoLayers(SEPARATE), // in each branch; merged.test.ts has the second one
  'zoo/optimum-opt': twoLayers(PLAIN), // fc1 and fc2 are Gemm
  'zoo/optimum-phi3': twoLayers(4), // qkv, o, gate_up, down
  'zoo/optimum-qwen2': twoLayers(SEPARATE),
  'zoo/optimum-qwen3': twoLayers(SEPARATE),
  // q, k, v, o; gate, up and down of 4 experts
  'zoo/optimum-qwen3-moe': { ...twoLayers(16), routers: true },
  'zoo/ort-optimized-llama': twoLayers(SEPARATE),
}

/** Folder under ../shared/zoo -> code and part of the message. */
export const REFUSED: Readonly<Record<string, readonly [code: string, message: string]>> = {
  'genai-llama-int4-already-quantized': [
    'E_ALREADY_QUANTIZED',
    'node "/model/layers.0/attn/qkv_proj/MatMul_Q4" is com.microsoft.MatMulNBits',
  ],
}

/** Files that this machine runs. */
export const RUNNING: readonly (readonly [name: string, file: SharedFile])[] = Object.entries(FILES).filter(
  ([, { runs }]) => runs !== false,
)

export const modelOf = (name: string): string =>
  join(sharedDir!, name, name === 'zoo/optimum-merged' ? 'decoder_model_merged.onnx' : 'model.onnx')
