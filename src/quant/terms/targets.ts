/**
 * @file Targets: places where the output will run, and what each fills in where a run does not say it. One row a target, each with its
 * source. docs/targets.md explains the choices. Knows no model.
 */

import type { EmbeddingBits } from './scheme.ts'

export type TargetName =
  'cpu' | 'web' | 'webgpu' | 'cuda' | 'directml' | 'qnn' | 'openvino-npu' | 'tensorrt-rtx' | 'portable'

/** Width of stored codes: 3-bit weights are stored in 4 bits, 5-bit to 7-bit ones in 8. */
export type StoredBits = 2 | 4 | 8

type PerWidth<T> = Readonly<Record<StoredBits, T>>

/** Grouping of weights that are multiplied with float activations. */
export interface WeightDefaults {
  /** Weights along K that share a scale; undefined = one scale per output. */
  readonly group: number | undefined
  readonly symmetric: boolean
}

type Format = 'integer' | 'portable' | 'qdq'

/** Options that a target fills in. Scales have the type that the model computes in: MatMulNBits and DequantizeLinear want it so. */
export interface TargetDefaults {
  readonly weights: PerWidth<WeightDefaults>
  readonly accuracyLevel: 0 | 4
  /** Form of the products, where activations stay float and where they are quantized. In the form 'qdq' these have fixed ranges. */
  readonly format: { readonly floatActivations: Format; readonly quantizedActivations: Format }
  /** Bits of lm_head, by the width of the scheme's weights; undefined = float. */
  readonly lmHead: PerWidth<EmbeddingBits | undefined>
  readonly embedding: PerWidth<EmbeddingBits | undefined>
  /** Lookup in quantized embeddings, where the form of the products does not say it. */
  readonly lookup?: 'standard'
}

export interface Target extends TargetDefaults {
  /** Scheme where none is said. */
  readonly scheme: string
  /** Runtime, for people. */
  readonly runs: string
  /** Sources of the row, with the day they were read or measured. */
  readonly source: string
}

const every = <T>(value: T): PerWidth<T> => ({ 2: value, 4: value, 8: value })

/**
 * Bits of lm_head and embedding on targets with a fast kernel for both. With up to 4 bits in the blocks, 4 bits cost less than the blocks
 * do, and lm_head is a large part of what a token reads. An 8-bit scheme is chosen for accuracy, and 8 bits keep it.
 */
const OUTER_BITS: PerWidth<EmbeddingBits> = { 2: 4, 4: 4, 8: 8 }

const FLOAT = every(undefined)

/** Forms by operators of onnxruntime: MatMulNBits, MatMulIntegerToFloat. */
const OWN_OPERATORS = { floatActivations: 'integer', quantizedActivations: 'integer' } as const

/** MatMulNBits; there is no kernel for integer products, so quantized activations are written by standard operators. */
const OWN_WEIGHTS_ONLY = { floatActivations: 'integer', quantizedActivations: 'portable' } as const

/** Compilers of NPUs want fixed ranges of activations, in QuantizeLinear and DequantizeLinear. */
const STANDARD_QDQ = { floatActivations: 'qdq', quantizedActivations: 'qdq' } as const

// Groups of a CPU, by the milliseconds of one and of 128 tokens (K = N = 2048; float: 0.10 and 2.3 to 2.8). 4 bits: 0.029 and 2.1 in blocks
// of 32, as fast as wider ones. 2 bits: 0.045 and 4.2 in blocks of 32, slower than float; 0.027 and 2.2 in blocks of 64. 8 bits: 128 loses
// no accuracy that can be measured, is smaller, and takes 1.4 for 128 tokens where 32 takes 2.1.
export const TARGETS: Readonly<Record<TargetName, Target>> = {
  cpu: {
    runs: 'onnxruntime on CPUs (x64 with AVX2 or better, arm64)',
    scheme: 'w4a16',
    weights: {
      2: { group: 64, symmetric: false },
      4: { group: 32, symmetric: false },
      8: { group: 128, symmetric: false },
    },
    accuracyLevel: 4,
    format: OWN_OPERATORS,
    lmHead: OUTER_BITS,
    embedding: OUTER_BITS,
    source: 'measured on onnxruntime 1.30, AVX512-VNNI, 2026-11-20; onnxruntime pull 29064 (2 bits), 2026-11-21',
  },
  web: {
    runs: 'onnxruntime-web and transformers.js without WebGPU (wasm)',
    // No MatMulNBits kernel packs weights in wasm: its files decode at 0.11 to 0.18 of float, w8a8 at 0.88.
    scheme: 'w8a8',
    weights: every({ group: 32, symmetric: false }),
    accuracyLevel: 0,
    format: OWN_OPERATORS,
    // MatMulNBits is slow for lm_head too. A lookup costs next to nothing; wasm builds have no GatherBlockQuantized for it.
    lmHead: FLOAT,
    embedding: every(8),
    lookup: 'standard',
    source: 'measured with onnxruntime-web in Chromium, 2026-11-20',
  },
  webgpu: {
    runs: 'WebGPU: transformers.js, onnxruntime-web, onnxruntime-node',
    scheme: 'w4a16',
    weights: {
      // The fused decode is for 4 bits alone: with 2 bits zero points cost no kernel, and three levels would cost accuracy.
      2: { group: 64, symmetric: false },
      4: { group: 32, symmetric: true },
      8: { group: 32, symmetric: true },
    },
    accuracyLevel: 4,
    format: OWN_WEIGHTS_ONLY,
    lmHead: OUTER_BITS,
    embedding: OUTER_BITS,
    source:
      'onnxruntime contrib_ops/webgpu/quantization/matmul_nbits_common.cc at 01671d9, pull 28280; read 2026-11-21',
  },
  cuda: {
    runs: 'onnxruntime on NVIDIA GPUs (CUDA)',
    scheme: 'w4a16',
    weights: {
      2: { group: 64, symmetric: false },
      // Builds with compact fpA_intB kernels have blocks of 32 without zero points only.
      4: { group: 32, symmetric: true },
      8: { group: 32, symmetric: true },
    },
    // Accuracy level 4 gains nothing there: products are computed in float16.
    accuracyLevel: 0,
    format: OWN_WEIGHTS_ONLY,
    lmHead: OUTER_BITS,
    embedding: OUTER_BITS,
    source:
      'onnxruntime contrib_ops/cuda/quantization/matmul_nbits.cc at 01b814b, matmul_4bits.cu at 0278001; read 2026-11-21',
  },
  directml: {
    runs: 'onnxruntime on DirectML (Windows GPUs)',
    scheme: 'w4a16',
    weights: every({ group: 32, symmetric: false }),
    accuracyLevel: 0,
    format: OWN_WEIGHTS_ONLY,
    lmHead: OUTER_BITS,
    embedding: OUTER_BITS,
    source:
      'onnxruntime core/providers/dml/.../DmlOperatorMatMulNBits.cpp at 171d616 (4 and 8 bits, no bias input); read 2026-11-21',
  },
  qnn: {
    runs: 'onnxruntime-qnn on Qualcomm NPUs (HTP)',
    scheme: 'w4a16',
    // HTP has int4 weights per tensor and per channel; blocks need onnxruntime-qnn 2.4 and 16-bit activations.
    weights: every({ group: undefined, symmetric: true }),
    accuracyLevel: 0,
    format: STANDARD_QDQ,
    lmHead: FLOAT,
    embedding: FLOAT,
    source: 'Qualcomm htp_guidelines_int4_weights (2026-06-04), onnxruntime-qnn issue 650; read 2026-11-21',
  },
  'openvino-npu': {
    runs: 'onnxruntime with OpenVINO on Intel NPUs',
    scheme: 'w4a16',
    // Symmetric and one block per output: Intel measured 4000 ms a token without and 150 ms with (Phi-3 mini).
    weights: every({ group: undefined, symmetric: true }),
    accuracyLevel: 0,
    format: STANDARD_QDQ,
    lmHead: FLOAT,
    embedding: FLOAT,
    source: 'intel/onnxruntime pull 669, openvino pull 29671, OpenVINO GenAI on NPU 2025; read 2026-11-21',
  },
  'tensorrt-rtx': {
    runs: 'onnxruntime with TensorRT for RTX (NVIDIA RTX GPUs)',
    scheme: 'w4a16',
    // TensorRT dequantizes by a multiplication alone. 128 is the block of NVIDIA's own int4 recipes.
    weights: every({ group: 128, symmetric: true }),
    accuracyLevel: 0,
    format: STANDARD_QDQ,
    lmHead: FLOAT,
    embedding: FLOAT,
    source: 'NVIDIA TensorRT 10.11, "Working with Quantized Types" (symmetric only; weight-only int4); read 2026-11-21',
  },
  portable: {
    runs: 'any ONNX runtime: standard operators only',
    // DequantizeLinear of int8 with one scale per output is of opset 13.
    scheme: 'w8a16',
    weights: {
      2: { group: 64, symmetric: true },
      4: { group: 32, symmetric: true },
      8: { group: undefined, symmetric: true },
    },
    accuracyLevel: 0,
    format: { floatActivations: 'qdq', quantizedActivations: 'portable' },
    lmHead: every(8),
    embedding: every(8),
    source: 'ONNX DequantizeLinear 13 (per axis) and 21 (blocked, int4); read 2026-11-21',
  },
}

export const TARGET_NAMES: readonly TargetName[] = Object.keys(TARGETS) as TargetName[]

/** Target of a run that names none. */
export const DEFAULT_TARGET: TargetName = 'cpu'
