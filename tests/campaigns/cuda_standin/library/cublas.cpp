// Stand-ins for cuBLAS and cuBLASLt: they only queue a "kernel" of the time that the product would take.
#include <cuda_runtime_api.h>
#include <library_types.h>
typedef int cublasStatus_t;
typedef void *cublasHandle_t;
typedef int cublasMath_t;
typedef int cublasPointerMode_t;
typedef int cublasOperation_t;
typedef int cublasComputeType_t;
typedef int cublasGemmAlgo_t;
#define CUBLAS_STATUS_SUCCESS 0
#define CUBLAS_DEFAULT_MATH 0
#define CUBLAS_POINTER_MODE_HOST 0
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
extern "C" void standin_note(const char *);
extern "C" void standin_gemm(cudaStream_t, const char *, double);
#define API extern "C" __attribute__((visibility("default")))
struct H {
    cudaStream_t s = nullptr;
    cublasMath_t m = CUBLAS_DEFAULT_MATH;
    cublasPointerMode_t p = CUBLAS_POINTER_MODE_HOST;
};
API cublasStatus_t cublasCreate_v2(cublasHandle_t *h) {
    *h = (cublasHandle_t) new H;
    return CUBLAS_STATUS_SUCCESS;
}
API cublasStatus_t cublasDestroy_v2(cublasHandle_t) { return CUBLAS_STATUS_SUCCESS; }
API cublasStatus_t cublasSetStream_v2(cublasHandle_t h, cudaStream_t s) {
    ((H *)h)->s = s;
    return CUBLAS_STATUS_SUCCESS;
}
// torch sets the workspace before each product: its size stands among the calls.
API cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t, void *, size_t n) {
    char s[80];
    snprintf(s, 80, "cublasSetWorkspace %zu", n);
    standin_note(s);
    return CUBLAS_STATUS_SUCCESS;
}
API cublasStatus_t cublasSetMathMode(cublasHandle_t h, cublasMath_t m) {
    ((H *)h)->m = m;
    return CUBLAS_STATUS_SUCCESS;
}
API cublasStatus_t cublasGetMathMode(cublasHandle_t h, cublasMath_t *m) {
    *m = ((H *)h)->m;
    return CUBLAS_STATUS_SUCCESS;
}
API cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t h, cublasPointerMode_t p) {
    ((H *)h)->p = p;
    return CUBLAS_STATUS_SUCCESS;
}
API cublasStatus_t cublasGetPointerMode_v2(cublasHandle_t h, cublasPointerMode_t *p) {
    *p = ((H *)h)->p;
    return CUBLAS_STATUS_SUCCESS;
}
static void gemm(cublasHandle_t h, const char *n, long m, long k, long nn, long b, const char *t) {
    char s[160];
    snprintf(s, 160, "%s %s m=%ld n=%ld k=%ld b=%ld", n, t, m, nn, k, b);
    standin_gemm(((H *)h)->s, s, 2.0 * m * nn * k * b);
}
API cublasStatus_t cublasGemmEx(cublasHandle_t h, cublasOperation_t, cublasOperation_t, int m, int n, int k,
                                const void *, const void *, cudaDataType t, int, const void *, cudaDataType,
                                int, const void *, void *, cudaDataType, int, cublasComputeType_t,
                                cublasGemmAlgo_t) {
    gemm(h, "cublasGemmEx", m, k, n, 1, t == CUDA_R_16BF ? "bf16" : t == CUDA_R_16F ? "fp16" : "fp32");
    return CUBLAS_STATUS_SUCCESS;
}
API cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t h, cublasOperation_t, cublasOperation_t, int m,
                                              int n, int k, const void *, const void *, cudaDataType t, int,
                                              long long, const void *, cudaDataType, int, long long,
                                              const void *, void *, cudaDataType, int, long long, int b,
                                              cublasComputeType_t, cublasGemmAlgo_t) {
    gemm(h, "cublasGemmStridedBatchedEx", m, k, n, b, t == CUDA_R_16BF ? "bf16" : "x");
    return CUBLAS_STATUS_SUCCESS;
}
API cublasStatus_t cublasSgemm_v2(cublasHandle_t h, cublasOperation_t, cublasOperation_t, int m, int n, int k,
                                  const float *, const float *, int, const float *, int, const float *,
                                  float *, int) {
    gemm(h, "cublasSgemm", m, k, n, 1, "fp32");
    return CUBLAS_STATUS_SUCCESS;
}
API cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t h, cublasOperation_t, cublasOperation_t, int m,
                                             int n, int k, const float *, const float *, int, long long,
                                             const float *, int, long long, const float *, float *, int,
                                             long long, int b) {
    gemm(h, "cublasSgemmStridedBatched", m, k, n, b, "fp32");
    return CUBLAS_STATUS_SUCCESS;
}
