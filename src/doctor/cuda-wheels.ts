/**
 * @file Wheels on PyPI that hold the CUDA provider of onnxruntime and the libraries it needs. Exact files: what was downloaded is compared
 * with the sum here, not with one that the index gives.
 */

/** A wheel, and the files in it that are needed. */
export interface CudaWheel {
  /** Name of the project on the index. */
  readonly project: string
  readonly file: string
  readonly sha256: string
  readonly bytes: number
  /** Paths in the wheel. The last part of each becomes the name of a file. */
  readonly needed: RegExp
  /** Bytes of these files. */
  readonly unpackedBytes: number
}

/** Wheels for Linux x64, by version of onnxruntime. The provider of 1.30 is built with CUDA 13.0. */
export const CUDA_WHEELS: Readonly<Record<string, readonly CudaWheel[]>> = {
  '1.30.0': [
    {
      project: 'onnxruntime-gpu',
      file: 'onnxruntime_gpu-1.30.0-cp312-cp312-manylinux_2_28_x86_64.whl',
      sha256: '6acc0f4b3d5ac5f2984432faa59dd8fcce6775f8b43a7140afa0f322c7a703b1',
      bytes: 246_685_715,
      needed: /^onnxruntime\/capi\/libonnxruntime_providers_(?:cuda|shared)\.so$/,
      unpackedBytes: 272_064_536,
    },
    {
      project: 'nvidia-cuda-runtime',
      file: 'nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl',
      sha256: '7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548',
      bytes: 2_243_632,
      needed: /\/lib\/libcudart\.so\.\d+$/,
      unpackedBytes: 704_288,
    },
    {
      project: 'nvidia-cublas',
      file: 'nvidia_cublas-13.1.0.3-py3-none-manylinux_2_27_x86_64.whl',
      sha256: 'ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171',
      bytes: 423_133_236,
      needed: /\/lib\/libcublas(?:Lt)?\.so\.\d+$/,
      unpackedBytes: 595_773_576,
    },
    {
      project: 'nvidia-curand',
      file: 'nvidia_curand-10.4.0.35-py3-none-manylinux_2_27_x86_64.whl',
      sha256: '1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc',
      bytes: 59_544_258,
      needed: /\/lib\/libcurand\.so\.\d+$/,
      unpackedBytes: 132_698_328,
    },
    {
      project: 'nvidia-cudnn-cu13',
      file: 'nvidia_cudnn_cu13-9.20.0.48-py3-none-manylinux_2_27_x86_64.whl',
      sha256: '0c45dd8eeb50b603f07995b1b300c62ffe6a1980482b82b3bcf94a4ca9d49304',
      bytes: 366_173_588,
      needed: /\/lib\/libcudnn\w*\.so\.\d+$/,
      unpackedBytes: 493_418_952,
    },
  ],
}
