// A stand-in for libcuda.so.1: what compiled kernels, such as Triton's, are loaded and launched through. A
// launch is recorded by the kernel's name, and refused where a real driver would refuse it; nothing is run.
#include <cstdio>
#include <cuda.h>
#include <string>

#define API extern "C" __attribute__((visibility("default")))
extern "C" void standin_kernel(CUstream, const char *, double);

static const double KERNEL_US = 3;
// What a Hopper grants a program, and what one of its multiprocessors has. In bytes.
static const int SHARED_MOST = 232448, SHARED_OF_ALL = 233472;

// ---- the one device, and its context, which is there from the start
API CUresult cuCtxGetCurrent(CUcontext *context) {
    *context = (CUcontext)1;
    return CUDA_SUCCESS;
}
API CUresult cuDevicePrimaryCtxGetState(CUdevice, unsigned *flags, int *active) {
    if (flags) *flags = 0;
    *active = 1;
    return CUDA_SUCCESS;
}
API CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute what, CUdevice) {
    *value = what == CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN        ? SHARED_MOST
             : what == CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR ? SHARED_OF_ALL
                                                                                  : 0;
    return CUDA_SUCCESS;
}
API CUresult cuGetErrorString(CUresult, const char **text) {
    *text = "refused by the stand-in";
    return CUDA_SUCCESS;
}

// ---- kernels: a function is its name
API CUresult cuModuleLoad(CUmodule *module, const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) return CUDA_ERROR_FILE_NOT_FOUND;
    fclose(file);
    *module = (CUmodule)1;
    return CUDA_SUCCESS;
}
API CUresult cuModuleUnload(CUmodule) { return CUDA_SUCCESS; }
API CUresult cuModuleGetFunction(CUfunction *function, CUmodule, const char *name) {
    *function = (CUfunction) new std::string(name);
    return CUDA_SUCCESS;
}
API CUresult cuFuncGetAttribute(int *value, CUfunction_attribute, CUfunction) {
    *value = 0;
    return CUDA_SUCCESS;
}
API CUresult cuFuncSetAttribute(CUfunction, CUfunction_attribute, int) { return CUDA_SUCCESS; }
API CUresult cuFuncSetCacheConfig(CUfunction, CUfunc_cache) { return CUDA_SUCCESS; }
API CUresult cuLaunchKernel(CUfunction function, unsigned x, unsigned y, unsigned z, unsigned threads,
                            unsigned, unsigned, unsigned shared, CUstream stream, void **, void **) {
    bool grid = x && x <= 0x7fffffff && y && y <= 65535 && z && z <= 65535;
    if (!grid || !threads || threads > 1024 || shared > (unsigned)SHARED_MOST)
        return CUDA_ERROR_INVALID_VALUE;
    standin_kernel(stream, ((std::string *)function)->c_str(), KERNEL_US);
    return CUDA_SUCCESS;
}
