// A stand-in for libcudart.so.13: one "H200" whose memory is host memory and whose kernels do nothing.
// Streams are real queues, worked off by threads in (virtual) time: copies happen when their turn comes.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cuda_runtime_api.h>
#include <deque>
#include <execinfo.h>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <sys/mman.h>
#include <thread>
#include <unordered_map>
#include <vector>

using Clock = std::chrono::steady_clock;
static double now() { return std::chrono::duration<double>(Clock::now().time_since_epoch()).count(); }
static double envd(const char *n, double d) {
    const char *s = getenv(n);
    return s ? atof(s) : d;
}
static const double H2D = 50e9, D2D = 4e12;
struct Cfg {
    double kernel_us = envd("STANDIN_KERNEL_US", 3), tflops = envd("STANDIN_TFLOPS", 600),
           copy_delay_us = envd("STANDIN_COPY_DELAY_US", 8), total_gb = envd("STANDIN_TOTAL_GB", 139.7),
           skip_over = envd("STANDIN_SKIP_OVER", 4e6), scale = envd("STANDIN_SCALE", 1);
    bool trace = getenv("STANDIN_TRACE") != nullptr;
    bool hostalloc_fail = getenv("STANDIN_HOSTALLOC_FAIL") != nullptr;
};
static Cfg &cfg() {
    static Cfg c;
    return c;
}

struct Rec {
    std::atomic<bool> done{false};
    double t = 0;
}; // one recording of an event
static std::mutex gm;
static std::condition_variable gcv; // completion of anything
struct Op {
    std::function<void()> act;
    double us;
    std::shared_ptr<Rec> wait, rec;
    const char *name;
};
static bool inline_() {
    static bool b = getenv("STANDIN_INLINE") != nullptr;
    return b;
}
struct Stream {
    std::mutex m;
    std::condition_variable cv;
    std::deque<std::pair<double, Op>> q;
    double vt = 0;
    uint64_t submitted = 0;
    std::atomic<uint64_t> finished{0};
    std::thread th;
    int prio = 0;
    bool stop = false;
    int id;
    double busy = 0;
    Stream(int id) : id(id) {
        th = std::thread([this] { run(); });
    }
    void push(Op op) {
        if (inline_()) {
            if (op.act) op.act();
            if (op.rec) {
                op.rec->t = now();
                op.rec->done = true;
            }
            return;
        }
        {
            std::lock_guard<std::mutex> l(m);
            q.emplace_back(now(), std::move(op));
            ++submitted;
        }
        cv.notify_one();
    }
    void run() {
        for (;;) {
            std::pair<double, Op> it;
            {
                std::unique_lock<std::mutex> l(m);
                cv.wait(l, [&] { return stop || !q.empty(); });
                if (q.empty()) return;
                it = std::move(q.front());
                q.pop_front();
            }
            Op &op = it.second;
            if (it.first > vt) vt = it.first;
            if (op.wait) {
                std::unique_lock<std::mutex> l(gm);
                gcv.wait(l, [&] { return op.wait->done.load(); });
                if (op.wait->t > vt) vt = op.wait->t;
            }
            vt += op.us * 1e-6;
            busy += op.us * 1e-6;
            double d = vt - now();
            if (d > 80e-6) std::this_thread::sleep_for(std::chrono::duration<double>(d));
            if (op.act) op.act();
            if (op.rec) {
                std::lock_guard<std::mutex> l(gm);
                op.rec->t = vt;
                op.rec->done = true;
            }
            {
                std::lock_guard<std::mutex> l(gm);
                ++finished;
            }
            gcv.notify_all();
        }
    }
    void sync() {
        uint64_t upto;
        {
            std::lock_guard<std::mutex> l(m);
            upto = submitted;
        }
        std::unique_lock<std::mutex> l(gm);
        gcv.wait(l, [&] { return finished.load() >= upto; });
    }
    bool idle() {
        std::lock_guard<std::mutex> l(m);
        return finished.load() >= submitted;
    }
};
struct Event {
    unsigned flags = 0;
    std::shared_ptr<Rec> rec;
};

struct State {
    std::mutex m;
    std::map<uintptr_t, size_t> dev, host;
    size_t used = 0, peak = 0;
    std::unordered_map<const void *, std::string> names;
    std::map<std::string, std::pair<uint64_t, double>> kernels;
    std::map<std::string, uint64_t> calls;
    std::vector<Stream *> streams;
    bool record = false;
    std::vector<std::string> log;
    uint64_t pageable_h2d = 0, pageable_d2h = 0;
};
static State &S() {
    static State *s = new State;
    return *s;
}
static Stream *dflt() {
    static Stream *s = [] {
        auto *x = new Stream(0);
        S().streams.push_back(x);
        return x;
    }();
    return s;
}
static Stream *st(cudaStream_t s) { return (uintptr_t)s <= 2 ? dflt() : (Stream *)s; }
static void note(const char *n) {
    std::lock_guard<std::mutex> l(S().m);
    ++S().calls[n];
    if (S().record) S().log.push_back(std::string("  api ") + n);
}
static const std::map<uintptr_t, size_t>::const_iterator find_in(const std::map<uintptr_t, size_t> &m,
                                                                 const void *p) {
    auto it = m.upper_bound((uintptr_t)p);
    if (it == m.begin()) return m.end();
    --it;
    return (uintptr_t)p < it->first + it->second ? it : m.end();
}
static bool is_dev(const void *p) {
    std::lock_guard<std::mutex> l(S().m);
    return find_in(S().dev, p) != S().dev.end();
}
static bool is_host(const void *p) {
    std::lock_guard<std::mutex> l(S().m);
    return find_in(S().host, p) != S().host.end();
}
static thread_local cudaError_t last = cudaSuccess;
static cudaError_t ret(cudaError_t e) {
    if (e != cudaSuccess && e != cudaErrorNotReady) last = e;
    return e;
}
#define API extern "C" __attribute__((visibility("default")))

// ---- for Python and the other stubs
API void standin_kernel(cudaStream_t s, const char *name, double us) {
    {
        std::lock_guard<std::mutex> l(S().m);
        auto &k = S().kernels[name];
        ++k.first;
        k.second += us;
        if (S().record) S().log.push_back("k " + std::to_string(st(s)->id) + " " + name);
    }
    Op op;
    op.us = us * cfg().scale;
    op.name = name;
    st(s)->push(std::move(op));
}
API void standin_gemm(cudaStream_t s, const char *name, double flops) {
    standin_kernel(s, name, std::max(2.5, flops / cfg().tflops * 1e-6));
}
API void standin_note(const char *name) { note(name); }
API void standin_reset() {
    std::lock_guard<std::mutex> l(S().m);
    S().kernels.clear();
    S().calls.clear();
    S().log.clear();
    S().pageable_h2d = S().pageable_d2h = 0;
    for (auto *s : S().streams) s->busy = 0;
}
API void standin_record(int on) {
    std::lock_guard<std::mutex> l(S().m);
    S().record = on;
}
API void standin_set(const char *what, double v) {
    std::string w = what;
    auto &c = cfg();
    if (w == "kernel_us")
        c.kernel_us = v;
    else if (w == "scale")
        c.scale = v;
    else if (w == "copy_delay_us")
        c.copy_delay_us = v;
    else if (w == "total_gb")
        c.total_gb = v;
    else if (w == "hostalloc_fail")
        c.hostalloc_fail = v;
    else if (w == "tflops")
        c.tflops = v;
}
API void standin_dump(const char *path) {
    FILE *f = fopen(path, "w");
    std::lock_guard<std::mutex> l(S().m);
    for (auto &k : S().kernels)
        fprintf(f, "K\t%lu\t%.1f\t%s\n", k.second.first, k.second.second, k.first.c_str());
    for (auto &k : S().calls) fprintf(f, "C\t%lu\t%s\n", k.second, k.first.c_str());
    fprintf(f, "M\t%zu\t%zu\n", S().used, S().peak);
    fprintf(f, "P\t%lu\t%lu\n", S().pageable_h2d, S().pageable_d2h);
    for (auto *s : S().streams) fprintf(f, "S\t%d\t%.6f\t%lu\n", s->id, s->busy, (unsigned long)s->submitted);
    for (auto &k : S().log) fprintf(f, "L\t%s\n", k.c_str());
    fclose(f);
}

// ---- device
API cudaError_t cudaGetDeviceCount(int *n) {
    *n = 1;
    return cudaSuccess;
}
static thread_local int cur = 0;
API cudaError_t cudaGetDevice(int *d) {
    *d = cur;
    return cudaSuccess;
}
API cudaError_t cudaSetDevice(int d) {
    if (d) return ret(cudaErrorInvalidDevice);
    cur = d;
    return cudaSuccess;
}
API cudaError_t cudaDriverGetVersion(int *v) {
    *v = 13000;
    return cudaSuccess;
}
API cudaError_t cudaRuntimeGetVersion(int *v) {
    *v = 13000;
    return cudaSuccess;
}
API cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int) {
    memset(p, 0, sizeof *p);
    strcpy(p->name, "NVIDIA H200 (stand-in)");
    p->major = 9;
    p->minor = 0;
    p->multiProcessorCount = 132;
    p->warpSize = 32;
    p->totalGlobalMem = (size_t)(cfg().total_gb * (1ull << 30));
    p->maxThreadsPerBlock = 1024;
    p->maxThreadsPerMultiProcessor = 2048;
    p->regsPerBlock = 65536;
    p->regsPerMultiprocessor = 65536;
    p->sharedMemPerBlock = 49152;
    p->sharedMemPerBlockOptin = 232448;
    p->sharedMemPerMultiprocessor = 233472;
    p->l2CacheSize = 60 << 20;
    p->maxGridSize[0] = 2147483647;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
    p->maxThreadsDim[2] = 64;
    p->textureAlignment = 512;
    p->unifiedAddressing = 1;
    p->concurrentKernels = 1;
    p->asyncEngineCount = 3;
    p->memoryBusWidth = 6144;
    p->pciBusID = 1;
    p->maxBlocksPerMultiProcessor = 32;
    p->canMapHostMemory = 1;
    p->managedMemory = 1;
    p->concurrentManagedAccess = 1;
    p->cooperativeLaunch = 1;
    for (int i = 0; i < 16; ++i) p->uuid.bytes[i] = i + 1;
    return cudaSuccess;
}
API cudaError_t cudaDeviceGetAttribute(int *v, cudaDeviceAttr a, int) {
    cudaDeviceProp p;
    cudaGetDeviceProperties(&p, 0);
    switch (a) {
    case cudaDevAttrMultiProcessorCount:
        *v = 132;
        break;
    case cudaDevAttrComputeCapabilityMajor:
        *v = 9;
        break;
    case cudaDevAttrComputeCapabilityMinor:
        *v = 0;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *v = 232448;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *v = 49152;
        break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *v = 233472;
        break;
    case cudaDevAttrMaxGridDimX:
        *v = 2147483647;
        break;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ:
        *v = 65535;
        break;
    case cudaDevAttrMaxThreadsPerBlock:
        *v = 1024;
        break;
    case cudaDevAttrWarpSize:
        *v = 32;
        break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
        *v = 2048;
        break;
    case cudaDevAttrL2CacheSize:
        *v = 60 << 20;
        break;
    case cudaDevAttrMaxRegistersPerBlock:
        *v = 65536;
        break;
    case cudaDevAttrMaxBlocksPerMultiprocessor:
        *v = 32;
        break;
    default:
        *v = 0;
    }
    return cudaSuccess;
}
API cudaError_t cudaDeviceGetPCIBusId(char *b, int n, int) {
    snprintf(b, n, "0000:01:00.0");
    return cudaSuccess;
}
API cudaError_t cudaDeviceGetStreamPriorityRange(int *l, int *g) {
    *l = 0;
    *g = -5;
    return cudaSuccess;
}
API cudaError_t cudaDeviceCanAccessPeer(int *c, int, int) {
    *c = 0;
    return cudaSuccess;
}
API cudaError_t cudaDeviceSynchronize() {
    note("cudaDeviceSynchronize");
    std::vector<Stream *> v;
    {
        std::lock_guard<std::mutex> l(S().m);
        v = S().streams;
    }
    for (auto *s : v) s->sync();
    return cudaSuccess;
}
API cudaError_t cudaMemGetInfo(size_t *f, size_t *t) {
    std::lock_guard<std::mutex> l(S().m);
    *t = (size_t)(cfg().total_gb * (1ull << 30));
    *f = *t > S().used ? *t - S().used : 0;
    return cudaSuccess;
}
API cudaError_t cudaGetLastError() {
    auto e = last;
    last = cudaSuccess;
    return e;
}
API cudaError_t cudaPeekAtLastError() { return last; }
API const char *cudaGetErrorString(cudaError_t e) {
    return e == cudaErrorMemoryAllocation ? "out of memory" : e == cudaSuccess ? "no error" : "an error of the stand-in";
}
API const char *cudaGetErrorName(cudaError_t e) {
    return e == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaErrorStandIn";
}

// ---- memory
API cudaError_t cudaMalloc(void **p, size_t n) {
    note("cudaMalloc");
    std::lock_guard<std::mutex> l(S().m);
    if (S().used + n > cfg().total_gb * (1ull << 30)) {
        *p = nullptr;
        return ret(cudaErrorMemoryAllocation);
    }
    void *x =
        mmap(nullptr, n ? n : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (x == MAP_FAILED) return ret(cudaErrorMemoryAllocation);
    *p = x;
    S().dev[(uintptr_t)x] = n;
    S().used += n;
    if (S().used > S().peak) S().peak = S().used;
    return cudaSuccess;
}
API cudaError_t cudaFree(void *p) {
    if (!p) return cudaSuccess;
    note("cudaFree");
    cudaDeviceSynchronize();
    std::lock_guard<std::mutex> l(S().m);
    auto it = S().dev.find((uintptr_t)p);
    if (it == S().dev.end()) return ret(cudaErrorInvalidValue);
    munmap(p, it->second);
    S().used -= it->second;
    S().dev.erase(it);
    return cudaSuccess;
}
API cudaError_t cudaHostAlloc(void **p, size_t n, unsigned) {
    note("cudaHostAlloc");
    if (cfg().hostalloc_fail) return ret(cudaErrorMemoryAllocation);
    void *x = nullptr;
    if (posix_memalign(&x, 4096, n)) return ret(cudaErrorMemoryAllocation);
    std::lock_guard<std::mutex> l(S().m);
    S().host[(uintptr_t)x] = n;
    *p = x;
    return cudaSuccess;
}
API cudaError_t cudaFreeHost(void *p) {
    note("cudaFreeHost");
    {
        std::lock_guard<std::mutex> l(S().m);
        S().host.erase((uintptr_t)p);
    }
    free(p);
    return cudaSuccess;
}
API cudaError_t cudaHostRegister(void *p, size_t n, unsigned) {
    std::lock_guard<std::mutex> l(S().m);
    S().host[(uintptr_t)p] = n;
    return cudaSuccess;
}
API cudaError_t cudaHostUnregister(void *p) {
    std::lock_guard<std::mutex> l(S().m);
    S().host.erase((uintptr_t)p);
    return cudaSuccess;
}
API cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *a, const void *p) {
    memset(a, 0, sizeof *a);
    if (is_dev(p)) {
        a->type = cudaMemoryTypeDevice;
        a->devicePointer = (void *)p;
    } else if (is_host(p)) {
        a->type = cudaMemoryTypeHost;
        a->hostPointer = (void *)p;
    } else
        a->type = cudaMemoryTypeUnregistered;
    return cudaSuccess;
}
static cudaError_t copy(void *d, const void *s, size_t n, cudaStream_t stream, bool block) {
    bool dd = is_dev(d), sd = is_dev(s);
    Stream *q = st(stream);
    Op op;
    op.name = "memcpy";
    op.us = (dd && sd) ? n * 2 / D2D * 1e6 + 2 : n / H2D * 1e6 + cfg().copy_delay_us;
    const char *kind = dd && sd ? "memcpy D2D" : dd ? "memcpy H2D" : sd ? "memcpy D2H" : "memcpy H2H";
    bool pageable = (dd && !sd && !is_host(s)) || (sd && !dd && !is_host(d));
    {
        std::lock_guard<std::mutex> l(S().m);
        ++S().calls[std::string(kind) + (pageable ? " pageable" : "")];
        if (dd && !sd && pageable) ++S().pageable_h2d;
        if (sd && !dd && pageable) ++S().pageable_d2h;
        if (S().record)
            S().log.push_back("m " + std::to_string(q->id) + " " + kind + (pageable ? " pageable" : "") +
                              " " + std::to_string(n));
    }
    if (pageable && dd) {
        if (n > cfg().skip_over) {
            op.act = nullptr;
            op.us = 1;
        } else {
            auto buf = std::make_shared<std::vector<char>>((const char *)s, (const char *)s + n);
            op.act = [buf, d, n] { memcpy(d, buf->data(), n); };
        }
    } else {
        static bool fill = getenv("STANDIN_FILL") != nullptr;
        if (fill && sd && !dd)
            op.act = [=] { memset(d, 1, n); };
        else
            op.act = [=] { memcpy(d, s, n); };
    }
    q->push(std::move(op));
    if (block || (pageable && sd)) q->sync();
    return cudaSuccess;
}
API cudaError_t cudaMemcpyAsync(void *d, const void *s, size_t n, cudaMemcpyKind, cudaStream_t st_) {
    return copy(d, s, n, st_, false);
}
API cudaError_t cudaMemcpy(void *d, const void *s, size_t n, cudaMemcpyKind) {
    note("cudaMemcpy (sync)");
    return copy(d, s, n, nullptr, true);
}
API cudaError_t cudaMemcpyToSymbol(const void *, const void *, size_t, size_t, cudaMemcpyKind) {
    return cudaSuccess;
}
API cudaError_t cudaMemsetAsync(void *d, int v, size_t n, cudaStream_t s) {
    note("cudaMemsetAsync");
    {
        std::lock_guard<std::mutex> l(S().m);
        if (S().record) S().log.push_back("k memset " + std::to_string(n));
    }
    Op op;
    op.us = 2;
    op.name = "memset";
    if (n <= cfg().skip_over) op.act = [=] { memset(d, v, n); };
    st(s)->push(std::move(op));
    return cudaSuccess;
}
API cudaError_t cudaMemset(void *d, int v, size_t n) { return cudaMemsetAsync(d, v, n, nullptr); }

// ---- streams, events
API cudaError_t cudaStreamCreateWithPriority(cudaStream_t *s, unsigned, int prio) {
    dflt();
    Stream *x;
    {
        std::lock_guard<std::mutex> l(S().m);
        x = new Stream((int)S().streams.size());
        S().streams.push_back(x);
    }
    x->prio = prio;
    *s = (cudaStream_t)x;
    return cudaSuccess;
}
API cudaError_t cudaStreamCreate(cudaStream_t *s) { return cudaStreamCreateWithPriority(s, 0, 0); }
API cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
API cudaError_t cudaStreamGetPriority(cudaStream_t s, int *p) {
    *p = st(s)->prio;
    return cudaSuccess;
}
API cudaError_t cudaStreamQuery(cudaStream_t s) { return st(s)->idle() ? cudaSuccess : cudaErrorNotReady; }
API cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    note("cudaStreamSynchronize");
    st(s)->sync();
    return cudaSuccess;
}
API cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned) {
    note("cudaStreamWaitEvent");
    auto r = ((Event *)e)->rec;
    if (!r) return cudaSuccess;
    Op op;
    op.us = 0;
    op.wait = r;
    op.name = "wait";
    st(s)->push(std::move(op));
    return cudaSuccess;
}
API cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus *c) {
    *c = cudaStreamCaptureStatusNone;
    return cudaSuccess;
}
API cudaError_t cudaStreamGetCaptureInfo(cudaStream_t, cudaStreamCaptureStatus *c, unsigned long long *id,
                                         cudaGraph_t *, const cudaGraphNode_t **, const cudaGraphEdgeData **,
                                         size_t *) {
    *c = cudaStreamCaptureStatusNone;
    if (id) *id = 0;
    return cudaSuccess;
}
API cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *) { return cudaSuccess; }
API cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned f) {
    note("cudaEventCreate");
    auto *x = new Event;
    x->flags = f;
    *e = (cudaEvent_t)x;
    return cudaSuccess;
}
API cudaError_t cudaEventCreate(cudaEvent_t *e) { return cudaEventCreateWithFlags(e, 0); }
API cudaError_t cudaEventDestroy(cudaEvent_t e) {
    delete (Event *)e;
    return cudaSuccess;
}
API cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
    note("cudaEventRecord");
    auto r = std::make_shared<Rec>();
    ((Event *)e)->rec = r;
    Op op;
    op.us = 0;
    op.rec = r;
    op.name = "record";
    st(s)->push(std::move(op));
    return cudaSuccess;
}
API cudaError_t cudaEventRecordWithFlags(cudaEvent_t e, cudaStream_t s, unsigned) {
    return cudaEventRecord(e, s);
}
API cudaError_t cudaEventQuery(cudaEvent_t e) {
    auto r = ((Event *)e)->rec;
    return !r || r->done ? cudaSuccess : cudaErrorNotReady;
}
API cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    note("cudaEventSynchronize");
    auto r = ((Event *)e)->rec;
    if (!r) return cudaSuccess;
    std::unique_lock<std::mutex> l(gm);
    gcv.wait(l, [&] { return r->done.load(); });
    return cudaSuccess;
}
API cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t a, cudaEvent_t b) {
    auto x = ((Event *)a)->rec, y = ((Event *)b)->rec;
    if (!x || !y) return ret(cudaErrorInvalidResourceHandle);
    if ((((Event *)a)->flags | ((Event *)b)->flags) & cudaEventDisableTiming)
        return ret(cudaErrorInvalidResourceHandle);
    if (!x->done || !y->done) return ret(cudaErrorNotReady);
    *ms = (float)((y->t - x->t) * 1e3);
    return cudaSuccess;
}
API cudaError_t cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t f, void *u) {
    note("cudaLaunchHostFunc");
    Op op;
    op.us = 1;
    op.act = [=] { f(u); };
    op.name = "hostfn";
    st(s)->push(std::move(op));
    return cudaSuccess;
}

// ---- kernels
API void **__cudaRegisterFatBinary(void *) {
    static void *h[4];
    return h;
}
API void __cudaRegisterFatBinaryEnd(void **) {}
API void __cudaUnregisterFatBinary(void **) {}
API char __cudaInitModule(void **) { return 1; }
API void __cudaRegisterFunction(void **, const char *host, char *, const char *name, int, uint3 *, uint3 *,
                                dim3 *, dim3 *, int *) {
    std::lock_guard<std::mutex> l(S().m);
    S().names[host] = name;
}
API void __cudaRegisterVar(void **, char *, char *, const char *, int, size_t, int, int) {}
struct Conf {
    dim3 g, b;
    size_t sh;
    cudaStream_t s;
};
static thread_local std::vector<Conf> confs;
API unsigned __cudaPushCallConfiguration(dim3 g, dim3 b, size_t sh, struct CUstream_st *s) {
    confs.push_back({g, b, sh, (cudaStream_t)s});
    return 0;
}
API cudaError_t __cudaPopCallConfiguration(dim3 *g, dim3 *b, size_t *sh, void *s) {
    auto c = confs.back();
    confs.pop_back();
    *g = c.g;
    *b = c.b;
    *sh = c.sh;
    *(cudaStream_t *)s = c.s;
    return cudaSuccess;
}
API cudaError_t __cudaGetKernel(cudaKernel_t *k, const void *f) {
    *k = (cudaKernel_t)f;
    return cudaSuccess;
}
static std::unordered_map<const void *, uint64_t> cheap;
static cudaError_t launch(const void *f, dim3 g, dim3 b, cudaStream_t s) {
    if (!g.x || !g.y || !g.z || !b.x) return ret(cudaErrorInvalidConfiguration);
    if (inline_() && !S().record) {
        ++cheap[f];
        return cudaSuccess;
    }
    const char *n;
    {
        std::lock_guard<std::mutex> l(S().m);
        auto it = S().names.find(f);
        n = it == S().names.end() ? "?" : it->second.c_str();
        ++S().calls["cudaLaunchKernel"];
    }
    standin_kernel(s, n, cfg().kernel_us);
    return cudaSuccess;
}
API cudaError_t __cudaLaunchKernel(cudaKernel_t k, dim3 g, dim3 b, void **, size_t, cudaStream_t s) {
    return launch((const void *)k, g, b, s);
}
API cudaError_t cudaLaunchKernel(const void *f, dim3 g, dim3 b, void **, size_t, cudaStream_t s) {
    return launch(f, g, b, s);
}
API cudaError_t cudaLaunchCooperativeKernel(const void *f, dim3 g, dim3 b, void **, size_t, cudaStream_t s) {
    return launch(f, g, b, s);
}
API cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *c, const void *f, void **) {
    return launch(f, c->gridDim, c->blockDim, c->stream);
}
API cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *a, const void *) {
    memset(a, 0, sizeof *a);
    a->maxThreadsPerBlock = 1024;
    a->numRegs = 64;
    a->binaryVersion = 90;
    a->ptxVersion = 90;
    a->maxDynamicSharedSizeBytes = 49152;
    return cudaSuccess;
}
API cudaError_t cudaFuncSetAttribute(const void *, cudaFuncAttribute, int) { return cudaSuccess; }
API cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *n, const void *, int, size_t,
                                                                       unsigned) {
    *n = 2;
    return cudaSuccess;
}
API cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *n, const void *, int, size_t) {
    *n = 2;
    return cudaSuccess;
}
API cudaError_t cudaGetSymbolAddress(void **p, const void *) {
    static char z[65536];
    *p = z;
    return cudaSuccess;
}
API cudaError_t cudaProfilerStart() { return cudaSuccess; }
API cudaError_t cudaProfilerStop() { return cudaSuccess; }
// ---- the driver's entry points
static int drv_unsupported() { return 801; }
static int drv_primary(int, unsigned *f, int *a) {
    if (f) *f = 0;
    *a = 1;
    return 0;
}
API cudaError_t cudaGetDriverEntryPointByVersion(const char *n, void **f, unsigned, unsigned long long,
                                                 cudaDriverEntryPointQueryResult *r) {
    *f = !strcmp(n, "cuDevicePrimaryCtxGetState") ? (void *)drv_primary : (void *)drv_unsupported;
    if (r) *r = cudaDriverEntryPointSuccess;
    return cudaSuccess;
}
