// A stand-in for cuBLASLt: one algorithm for everything, and the workspace that it was given in its name.
#include <cstdint>
#include <cuda_runtime_api.h>
#include <library_types.h>
typedef int cublasStatus_t;
typedef void *cublasLtHandle_t, *cublasLtMatmulDesc_t, *cublasLtMatrixLayout_t, *cublasLtMatmulPreference_t;
typedef int cublasComputeType_t, cublasLtMatmulDescAttributes_t, cublasLtMatmulPreferenceAttributes_t,
    cublasLtMatrixLayoutAttribute_t;
struct cublasLtMatmulAlgo_t {
    uint64_t data[8];
};
struct cublasLtMatmulHeuristicResult_t {
    cublasLtMatmulAlgo_t algo;
    size_t workspaceSize;
    int state;
    float waves;
    int reserved[4];
};
#define CUBLAS_STATUS_SUCCESS 0
#define CUBLASLT_MATMUL_DESC_TRANSA 3
#define CUBLASLT_MATMUL_DESC_TRANSB 4
#define CUBLASLT_MATMUL_DESC_EPILOGUE 7
#define CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT 5
#include <cstdio>
#include <cstring>
extern "C" void standin_gemm(cudaStream_t, const char *, double);
#define API extern "C" __attribute__((visibility("default")))
struct L {
    cudaDataType t;
    unsigned long r, c;
    long ld;
    int b = 1;
};
struct D {
    int ta = 0, tb = 0, epi = 1;
};
API size_t cublasLtGetVersion() { return 130000; }
API cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t, cudaDataType_t) {
    *d = (cublasLtMatmulDesc_t) new D;
    return CUBLAS_STATUS_SUCCESS;
}
API cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d) {
    delete (D *)d;
    return CUBLAS_STATUS_SUCCESS;
}
API cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t a,
                                                  const void *p, size_t) {
    D *x = (D *)d;
    if (a == CUBLASLT_MATMUL_DESC_TRANSA) x->ta = *(int *)p;
    if (a == CUBLASLT_MATMUL_DESC_TRANSB) x->tb = *(int *)p;
    if (a == CUBLASLT_MATMUL_DESC_EPILOGUE) x->epi = *(int *)p;
    return CUBLAS_STATUS_SUCCESS;
}
API cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p) {
    *p = (cublasLtMatmulPreference_t) new int;
    return CUBLAS_STATUS_SUCCESS;
}
API cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t) {
    return CUBLAS_STATUS_SUCCESS;
}
API cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t,
                                                        cublasLtMatmulPreferenceAttributes_t, const void *,
                                                        size_t) {
    return CUBLAS_STATUS_SUCCESS;
}
API cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *l, cudaDataType t, uint64_t r,
                                              uint64_t c, int64_t ld) {
    *l = (cublasLtMatrixLayout_t) new L{t, r, c, ld};
    return CUBLAS_STATUS_SUCCESS;
}
API cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l) {
    delete (L *)l;
    return CUBLAS_STATUS_SUCCESS;
}
API cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l,
                                                    cublasLtMatrixLayoutAttribute_t a, const void *p,
                                                    size_t) {
    if (a == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT) ((L *)l)->b = *(int *)p;
    return CUBLAS_STATUS_SUCCESS;
}
API cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t,
                                                  cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                                  cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                                  cublasLtMatmulPreference_t, int,
                                                  cublasLtMatmulHeuristicResult_t *r, int *n) {
    memset(r, 0, sizeof *r);
    r->state = CUBLAS_STATUS_SUCCESS;
    *n = 1;
    return CUBLAS_STATUS_SUCCESS;
}
API cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t d, const void *, const void *,
                                  cublasLtMatrixLayout_t a, const void *, cublasLtMatrixLayout_t,
                                  const void *, const void *, cublasLtMatrixLayout_t, void *,
                                  cublasLtMatrixLayout_t c, const cublasLtMatmulAlgo_t *, void *, size_t ws,
                                  cudaStream_t s) {
    L *A = (L *)a, *C = (L *)c;
    double k = (double)A->r * A->c / C->r;
    char n[200];
    snprintf(n, 200, "cublasLtMatmul %s epilogue=%d m=%lu n=%lu k=%.0f ws=%zu",
             A->t == CUDA_R_16BF  ? "bf16"
             : A->t == CUDA_R_16F ? "fp16"
                                  : "fp32",
             ((D *)d)->epi, C->r, C->c, k, ws);
    standin_gemm(s, n, 2.0 * C->r * C->c * k * C->b);
    return CUBLAS_STATUS_SUCCESS;
}
