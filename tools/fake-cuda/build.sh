#!/usr/bin/env bash
# Builds stand-in CUDA libraries into a folder: build.sh OUT PROVIDER.so [CUDA_INCLUDE]
# PROVIDER.so is libonnxruntime_providers_cuda.so of pip's onnxruntime-gpu; it decides which symbols exist. Needs g++, nm and the
# headers of the CUDA runtime (pip: nvidia-cuda-runtime). See README.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1/src"
out=$(cd "$1" && pwd)
provider=$(realpath "$2")
include=${3:-/usr/local/cuda/include}
cd "$out/src"

nm -D --undefined-only "$provider" | awk '{ sub(/@.*/, "", $2); print $2 }' | grep -E '^cu' | sort -u >imported
# cuDNN is opened by name when it is first used: its functions are strings of the provider.
grep -aoE 'cudnn[A-Z][A-Za-z0-9_]*' "$provider" | sort -u >cudnn

# library FILE SONAME [LINKED]: symbols get the version that the provider asks for.
library() {
  echo "$2 { global: *; };" >"$2.map"
  g++ -O2 -fPIC -shared -I"$include" -o "$out/$2" -Wl,-soname,"$2" -Wl,--version-script="$2.map" "$1" "${@:3}"
}

count='extern "C" void fakecuda_count(const char*, double);'
counted() { echo "int $1(...) { fakecuda_count(\"$1\", 0); return 0; }"; }
silent() { echo "int $1(...) { return 0; }"; }
handle() { echo "int $1(void** h, ...) { static char x[256]; *h = x; return 0; }"; }
# functions TABLE: reads names, writes definitions.
functions() {
  echo '#include <cstddef>'
  echo "$count"
  echo 'extern "C" {'
  while read -r name; do "$1" "$name"; done
  echo '}'
}

blas() {
  case $1 in
  cublasCreate_v2) handle "$1" ;;
  cublasGetStatusName | cublasGetStatusString) echo "const char* $1(int) { return \"fake\"; }" ;;
  cublasGetMathMode) echo "static int mode; int $1(void*, int* m) { *m = mode; return 0; }" ;;
  cublasSgemm_v2 | cublasGemmEx) echo "int $1(void*, int, int, int m, int n, int k, ...) { fakecuda_count(\"$1\", 2.0 * m * n * k); return 0; }" ;;
  *) counted "$1" ;;
  esac
}
lt() {
  case $1 in
  cublasLtCreate | cublasLtMatmulDescCreate | cublasLtMatrixLayoutCreate | cublasLtMatmulPreferenceCreate | cublasLtMatrixTransformDescCreate) handle "$1" ;;
  cublasLtMatmulAlgoGetHeuristic) echo "int $1(void*, void*, void*, void*, void*, void*, void*, int, void*, int* n) { *n = 1; return 0; }" ;;
  *) counted "$1" ;;
  esac
}
dnn() {
  case $1 in
  cudnnGetVersion | cudnnGetCudartVersion) echo "size_t $1() { return 92000; }" ;;
  cudnnGetErrorString) echo "const char* $1(int) { return \"fake\"; }" ;;
  cudnnGetLastErrorString) echo "void $1(char* m, size_t n) { if (n) m[0] = 0; }" ;;
  cudnnGetReductionIndicesSize | cudnnGetReductionWorkspaceSize) echo "int $1(void*, void*, void*, void*, size_t* n) { *n = 0; return 0; }" ;;
  cudnnCreate*) handle "$1" ;;
  cudnnSet* | cudnnDestroy*) silent "$1" ;;
  *) counted "$1" ;;
  esac
}

library "$here/cudart.cpp" libcudart.so.13
grep -E '^cublas' imported | grep -v '^cublasLt' | functions blas >cublas.cpp
library cublas.cpp libcublas.so.13 "$out/libcudart.so.13"
grep -E '^cublasLt' imported | functions lt >cublasLt.cpp
library cublasLt.cpp libcublasLt.so.13 "$out/libcudart.so.13"
functions dnn <cudnn >cudnn.cpp
library cudnn.cpp libcudnn.so.9 "$out/libcudart.so.13"
echo cuTensorMapEncodeTiled | functions silent >cuda.cpp
library cuda.cpp libcuda.so.1
functions silent </dev/null >curand.cpp
library curand.cpp libcurand.so.10
ls -l "$out"
