// A cudart that has no GPU behind it: memory is host memory, copies are memcpy, kernels are counted and not run.
#include <cuda_runtime_api.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <unordered_map>
#include <mutex>
#include <cxxabi.h>
#include <dlfcn.h>
static std::mutex mu;
static std::unordered_map<const void*, std::string>* names; // host function -> device name
static std::map<std::string, long>* counts;
static std::map<std::string, double>* bytes;
static std::map<void*, size_t>* sizes; static size_t live, peak;
static bool trace() { static int t = getenv("FAKECUDA_TRACE") ? 1 : 0; return t; }
static bool fast() { static int f = getenv("FAKECUDA_FAST") ? 1 : 0; return f; }
extern "C" void fakecuda_count(const char* what, double b) {
  if (fast()) return;
  std::lock_guard<std::mutex> l(mu);
  if (!counts) { counts = new std::map<std::string, long>(); bytes = new std::map<std::string, double>(); }
  (*counts)[what]++; (*bytes)[what] += b;
  if (trace()) fprintf(stderr, "FAKE %s %.0f\n", what, b);
}
#define C(what) fakecuda_count(what, 0)
extern "C" void fakecuda_report(const char* path) {
  std::lock_guard<std::mutex> l(mu);
  FILE* f = fopen(path, "w"); if (!f) return;
  if (counts) for (auto& kv : *counts) fprintf(f, "%ld\t%.0f\t%s\n", kv.second, (*bytes)[kv.first], kv.first.c_str());
  fprintf(f, "0\t%zu\tpeak device bytes\n", peak); fclose(f);
}
__attribute__((destructor)) static void bye() { const char* p = getenv("FAKECUDA_LOG"); if (p) fakecuda_report(p); }
static std::string nameOf(const void* f) {
  std::lock_guard<std::mutex> l(mu);
  auto it = names ? names->find(f) : std::unordered_map<const void*, std::string>::iterator();
  if (!names || it == names->end()) return "unknown-kernel";
  int st; char* d = abi::__cxa_demangle(it->second.c_str(), 0, 0, &st);
  std::string r = d ? d : it->second; free(d);
  return r;
}
extern "C" {
void** __cudaRegisterFatBinary(void*) { static void* h[2]; return h; }
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
void __cudaRegisterFunction(void**, const char* hostFun, char*, const char* deviceName, int, uint3*, uint3*, dim3*, dim3*, int*) {
  std::lock_guard<std::mutex> l(mu);
  if (!names) names = new std::unordered_map<const void*, std::string>();
  (*names)[hostFun] = deviceName;
}
struct Cfg { dim3 g, b; size_t s; cudaStream_t st; };
static thread_local Cfg cfg[8]; static thread_local int top = 0;
unsigned __cudaPushCallConfiguration(dim3 g, dim3 b, size_t s, struct CUstream_st* st) { cfg[top++] = {g, b, s, st}; return 0; }
cudaError_t __cudaPopCallConfiguration(dim3* g, dim3* b, size_t* s, void* st) { auto& c = cfg[--top]; *g = c.g; *b = c.b; *s = c.s; *(cudaStream_t*)st = c.st; return cudaSuccess; }
cudaError_t __cudaGetKernel(cudaKernel_t* k, const void* f) { *k = (cudaKernel_t)f; return cudaSuccess; }
static void launch(const void* f) { if (fast()) return; fakecuda_count(("K " + nameOf(f)).c_str(), 0); }
cudaError_t __cudaLaunchKernel(cudaKernel_t k, dim3, dim3, void**, size_t, cudaStream_t) { launch((const void*)k); return cudaSuccess; }
cudaError_t cudaLaunchKernel(const void* f, dim3, dim3, void**, size_t, cudaStream_t) { launch(f); return cudaSuccess; }
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t*, const void* f, void**) { launch(f); return cudaSuccess; }
cudaError_t cudaLaunchCooperativeKernel(const void* f, dim3, dim3, void**, size_t, cudaStream_t) { launch(f); return cudaSuccess; }
cudaError_t cudaLaunchHostFunc(cudaStream_t, cudaHostFn_t fn, void* u) { C("cudaLaunchHostFunc"); fn(u); return cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int* v, enum cudaDeviceAttr a, int) {
  switch (a) {
    case cudaDevAttrComputeCapabilityMajor: *v = 9; break;
    case cudaDevAttrComputeCapabilityMinor: *v = 0; break;
    case cudaDevAttrMultiProcessorCount: *v = 132; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *v = 232448; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *v = 49152; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *v = 233472; break;
    case cudaDevAttrMaxThreadsPerBlock: *v = 1024; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *v = 2048; break;
    case cudaDevAttrWarpSize: *v = 32; break;
    case cudaDevAttrMemoryPoolsSupported: *v = 1; break;
    default: *v = 1;
  }
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp* p, int) {
  memset(p, 0, sizeof *p); strcpy(p->name, "Fake H100"); p->major = 9; p->minor = 0; p->multiProcessorCount = 132; p->warpSize = 32;
  p->maxThreadsPerBlock = 1024; p->maxThreadsPerMultiProcessor = 2048; p->sharedMemPerBlock = 49152; p->sharedMemPerBlockOptin = 232448;
  p->sharedMemPerMultiprocessor = 233472; p->regsPerBlock = 65536; p->totalGlobalMem = 80ull << 30; p->maxGridSize[0] = 2147483647; p->maxGridSize[1] = p->maxGridSize[2] = 65535;
  p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024; p->maxThreadsDim[2] = 64; p->l2CacheSize = 50 << 20; p->memoryBusWidth = 5120; p->regsPerMultiprocessor = 65536; p->maxBlocksPerMultiProcessor = 32;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() { C("cudaDeviceSynchronize"); return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* v) { *v = 13000; return cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* v) { *v = 13000; return cudaSuccess; }
cudaError_t cudaEventCreate(cudaEvent_t* e) { *e = (cudaEvent_t)malloc(8); return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned) { *e = (cudaEvent_t)malloc(8); return cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t e) { free((void*)e); return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t, cudaEvent_t) { *ms = 0.01f; return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { C("cudaEventRecord"); return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { C("cudaEventSynchronize"); return cudaSuccess; }

static void* grab(size_t n) { void* p = 0; if (n == 0) n = 1; if (posix_memalign(&p, 256, n)) return 0; std::lock_guard<std::mutex> l(mu); if (!sizes) sizes = new std::map<void*, size_t>(); (*sizes)[p] = n; live += n; if (live > peak) peak = live; return p; }
static void drop(void* p) { if (!p) return; { std::lock_guard<std::mutex> l(mu); auto it = sizes->find(p); if (it != sizes->end()) { live -= it->second; sizes->erase(it); } } free(p); }
cudaError_t cudaMalloc(void** p, size_t n) { fakecuda_count("cudaMalloc", n); *p = grab(n); return *p ? cudaSuccess : cudaErrorMemoryAllocation; }
cudaError_t cudaMallocFromPoolAsync(void** p, size_t n, cudaMemPool_t, cudaStream_t) { fakecuda_count("cudaMallocFromPoolAsync", n); *p = grab(n); return cudaSuccess; }
cudaError_t cudaMallocHost(void** p, size_t n) { fakecuda_count("cudaMallocHost", n); *p = malloc(n ? n : 1); return cudaSuccess; }
cudaError_t cudaHostAlloc(void** p, size_t n, unsigned) { fakecuda_count("cudaHostAlloc", n); *p = malloc(n ? n : 1); return cudaSuccess; }
cudaError_t cudaFree(void* p) { C("cudaFree"); drop(p); return cudaSuccess; }
cudaError_t cudaFreeAsync(void* p, cudaStream_t) { C("cudaFreeAsync"); drop(p); return cudaSuccess; }
cudaError_t cudaFreeHost(void* p) { free(p); return cudaSuccess; }
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes* a, const void*) { memset(a, 0, sizeof *a); a->maxThreadsPerBlock = 1024; a->numRegs = 32; return cudaSuccess; }
cudaError_t cudaFuncSetAttribute(const void*, enum cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaGetDevice(int* d) { *d = 0; return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* n) { *n = 1; return cudaSuccess; }
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetDriverEntryPointByVersion(const char*, void** f, unsigned, unsigned long long, enum cudaDriverEntryPointQueryResult* r) { *f = 0; if (r) *r = cudaDriverEntryPointSymbolNotFound; return cudaErrorNotSupported; }
const char* cudaGetErrorName(cudaError_t) { return "fake"; }
const char* cudaGetErrorString(cudaError_t) { return "fake"; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaPeekAtLastError() { return cudaSuccess; }
cudaError_t cudaGraphDestroy(cudaGraph_t) { return cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t) { return cudaSuccess; }
cudaError_t cudaGraphInstantiate(cudaGraphExec_t*, cudaGraph_t, unsigned long long) { C("cudaGraphInstantiate"); return cudaSuccess; }
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t) { C("cudaGraphLaunch"); return cudaSuccess; }
cudaError_t cudaKernelSetAttributeForDevice(cudaKernel_t, enum cudaFuncAttribute, int, int) { return cudaSuccess; }
cudaError_t cudaLibraryGetKernel(cudaKernel_t*, cudaLibrary_t, const char*) { return cudaErrorNotSupported; }
cudaError_t cudaLibraryLoadData(cudaLibrary_t*, const void*, enum cudaJitOption*, void**, unsigned, enum cudaLibraryOption*, void**, unsigned) { return cudaErrorNotSupported; }
cudaError_t cudaLibraryUnload(cudaLibrary_t) { return cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t* f, size_t* t) { *t = 80ull << 30; *f = *t - live; return cudaSuccess; }
cudaError_t cudaMemPoolCreate(cudaMemPool_t* p, const struct cudaMemPoolProps*) { C("cudaMemPoolCreate"); *p = (cudaMemPool_t)malloc(8); return cudaSuccess; }
cudaError_t cudaMemPoolDestroy(cudaMemPool_t) { return cudaSuccess; }
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t, enum cudaMemPoolAttr, void* v) { memset(v, 0, 8); return cudaSuccess; }
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, enum cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) { return cudaSuccess; }
static const char* kind(enum cudaMemcpyKind k) { switch (k) { case cudaMemcpyHostToDevice: return "H2D"; case cudaMemcpyDeviceToHost: return "D2H"; case cudaMemcpyDeviceToDevice: return "D2D"; case cudaMemcpyHostToHost: return "H2H"; default: return "default"; } }
cudaError_t cudaMemcpy(void* d, const void* s, size_t n, enum cudaMemcpyKind k) { fakecuda_count((std::string("memcpy-sync ") + kind(k)).c_str(), n); memcpy(d, s, n); return cudaSuccess; }
cudaError_t cudaMemcpyAsync(void* d, const void* s, size_t n, enum cudaMemcpyKind k, cudaStream_t) { fakecuda_count((std::string("memcpy ") + kind(k)).c_str(), n); memmove(d, s, n); return cudaSuccess; }
cudaError_t cudaMemcpy2DAsync(void* d, size_t dp, const void* s, size_t sp, size_t w, size_t h, enum cudaMemcpyKind k, cudaStream_t) { fakecuda_count((std::string("memcpy2D ") + kind(k)).c_str(), w * h); for (size_t i = 0; i < h; i++) memcpy((char*)d + i * dp, (const char*)s + i * sp, w); return cudaSuccess; }
cudaError_t cudaMemcpyFromSymbol(void* d, const void*, size_t n, size_t, enum cudaMemcpyKind) { memset(d, 0, n); return cudaSuccess; }
cudaError_t cudaMemset(void* p, int v, size_t n) { memset(p, v, n); return cudaSuccess; }
cudaError_t cudaMemsetAsync(void* p, int v, size_t n, cudaStream_t) { fakecuda_count("memset", n); memset(p, v, n); return cudaSuccess; }
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* n, const void*, int, size_t, unsigned) { *n = 2; return cudaSuccess; }
cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes* a, const void* p) { memset(a, 0, sizeof *a); std::lock_guard<std::mutex> l(mu); a->type = cudaMemoryTypeHost; if (sizes) { auto it = sizes->upper_bound((void*)p); if (it != sizes->begin()) { --it; if ((char*)p < (char*)it->first + it->second) a->type = cudaMemoryTypeDevice; } } a->devicePointer = (void*)p; return cudaSuccess; }
cudaError_t cudaStreamBeginCapture(cudaStream_t, enum cudaStreamCaptureMode) { C("cudaStreamBeginCapture"); return cudaSuccess; }
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t*) { return cudaSuccess; }
cudaError_t cudaStreamIsCapturing(cudaStream_t, enum cudaStreamCaptureStatus* s) { *s = cudaStreamCaptureStatusNone; return cudaSuccess; }
cudaError_t cudaStreamCreate(cudaStream_t* s) { C("cudaStreamCreate"); *s = (cudaStream_t)malloc(8); return cudaSuccess; }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned) { C("cudaStreamCreate"); *s = (cudaStream_t)malloc(8); return cudaSuccess; }
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { C("cudaStreamSynchronize"); return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
size_t fakecuda_peak() { return peak; }
}
