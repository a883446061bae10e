/* A stand-in of NVIDIA's driver (libcuda.so.1), on which the host's code for GPUs runs where there is no GPU.

   It computes nothing: a kernel that is launched leaves all memory as it is. It keeps the books of what the host does
   (contexts, memory, streams, captures, graphs, kernels as they were really compiled) and refuses what a driver
   refuses, with the same codes. What a correct program never does is reported besides, as a violation; some of it a
   driver would not even refuse, but let a kernel read memory that is gone.

   Everything is done when a call returns, so a missing wait does not show. Handles are the addresses of the structures
   below; these are never freed, so that one that is used too late is recognized.

   Settings come from the environment: STAND_IN_GPUS, STAND_IN_MEGABYTES (of each GPU), STAND_IN_CUDA (the driver's
   version, as 13000) and STAND_IN_REPORT (the file to write to). Functions that are not here are made by build.py; they
   fail, and are reported by name.

   The names are those of cuda.h, whose macros add the version that a function has in the library (cuMemAlloc becomes
   cuMemAlloc_v2), and with whose declarations the compiler compares what is written here. */
#define _GNU_SOURCE
#include <cuda.h>
#include <elf.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- The report, the lock, and settings -------------------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

static int enter(void) { return pthread_mutex_lock(&lock); }
static void leave(int *entered) { *entered = pthread_mutex_unlock(&lock); }

/* One thread at a time, until the function returns. */
#define ALONE __attribute__((cleanup(leave), unused)) int entered = enter()

static void report(const char *kind, const char *format, va_list values) {
    ALONE;
    static FILE *file;
    const char *path = getenv("STAND_IN_REPORT");
    if (file == NULL && path != NULL) file = fopen(path, "a");
    if (file == NULL) file = stderr;
    fprintf(file, "%s: ", kind);
    vfprintf(file, format, values);
    fputc('\n', file);
    fflush(file);
}

#define REPORT(kind, format)                                                                                          \
    va_list values;                                                                                                   \
    va_start(values, format);                                                                                         \
    report(kind, format, values);                                                                                     \
    va_end(values)

/* Report what a correct program never does; returns the code that a driver answers with. */
__attribute__((format(printf, 2, 3))) static CUresult violation(CUresult code, const char *format, ...) {
    REPORT("violation", format);
    return code;
}

/* Report what the stand-in should have and has not. */
__attribute__((format(printf, 1, 2))) CUresult stand_in_lacks(const char *format, ...) {
    REPORT("the stand-in lacks", format);
    return CUDA_ERROR_NOT_SUPPORTED;
}

/* What getters do. */
#define GIVE(place, value) return *(place) = (value), CUDA_SUCCESS

static long setting(const char *name, long otherwise) {
    const char *value = getenv(name);
    return value == NULL ? otherwise : atol(value);
}

/* How many there are now, or have been. */
static struct {
    long launches, replays, replayed, captures, streams, graphs, executables, arrays, host_arrays;
} counts;

/* ---- GPUs and contexts ------------------------------------------------------------------------------------------- */

#define MOST_GPUS 4

/* A GPU with its one context, the primary one. */
struct gpu {
    int number;
    size_t used;    /* bytes of memory */
    CUresult fault; /* what every call answers once the GPU is lost */
    int captures;   /* streams that are captured now */
    int blocking;   /* of these, those that wait for the default stream */
};

static struct gpu gpus[MOST_GPUS] = {{.number = 0}, {.number = 1}, {.number = 2}, {.number = 3}};

/* Every thread has a stack of contexts; the uppermost is current. */
static __thread struct gpu *stack[64];
static __thread int depth;

static struct gpu *current(void) { return depth > 0 ? stack[depth - 1] : NULL; }
static size_t memory_of_gpu(void) { return (size_t)setting("STAND_IN_MEGABYTES", 2048) << 20; }

/* How calls begin that reach a GPU: one is current, and it is not lost. */
#define ON_A_GPU(call)                                                                                                \
    ALONE;                                                                                                            \
    if (current() == NULL) return violation(CUDA_ERROR_INVALID_CONTEXT, "%s where no GPU is current", call);          \
    if (current()->fault != CUDA_SUCCESS) return current()->fault

CUresult cuInit(unsigned int flags) { return setting("STAND_IN_GPUS", 1) > 0 ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE; }
CUresult cuDriverGetVersion(int *version) { GIVE(version, (int)setting("STAND_IN_CUDA", 13000)); }

CUresult cuDeviceGetCount(int *count) {
    *count = (int)setting("STAND_IN_GPUS", 1);
    return *count <= MOST_GPUS ? CUDA_SUCCESS : stand_in_lacks("%d GPUs", *count);
}

CUresult cuDeviceGetName(char *name, int length, CUdevice device) {
    snprintf(name, length, "Stand-in %d", device);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device) {
    memset(uuid, device + 1, sizeof *uuid);
    return CUDA_SUCCESS;
}

/* Those of an H200; 1 (yes) where nobody has asked for a number yet. */
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
    switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: GIVE(value, 9);
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: GIVE(value, 0);
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: GIVE(value, 1024);
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: GIVE(value, 132);
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE: GIVE(value, 32);
    default: GIVE(value, 1);
    }
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) { GIVE(context, (CUcontext)&gpus[device]); }
CUresult cuDevicePrimaryCtxRelease(CUdevice device) { return CUDA_SUCCESS; }
CUresult cuCtxGetCurrent(CUcontext *context) { GIVE(context, (CUcontext)current()); }

CUresult cuCtxPushCurrent(CUcontext context) {
    if (depth == sizeof stack / sizeof *stack)
        return violation(CUDA_ERROR_INVALID_CONTEXT, "a context is pushed, and never popped");
    stack[depth++] = (struct gpu *)context;
    return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent(CUcontext *context) {
    if (depth == 0) return CUDA_ERROR_INVALID_CONTEXT;
    depth--;
    if (context != NULL) *context = (CUcontext)stack[depth];
    return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context) {
    if (depth > 0) depth--;
    return context == NULL ? CUDA_SUCCESS : cuCtxPushCurrent(context);
}

CUresult cuCtxGetDevice(CUdevice *device) {
    if (current() == NULL) return CUDA_ERROR_INVALID_CONTEXT;
    GIVE(device, current()->number);
}

#define NAME(code) case CUDA_ERROR_##code: *name = "CUDA_ERROR_" #code; break

CUresult cuGetErrorName(CUresult code, const char **name) {
    switch (code) {
    NAME(INVALID_VALUE); NAME(OUT_OF_MEMORY); NAME(NO_DEVICE); NAME(INVALID_CONTEXT); NAME(INVALID_HANDLE);
    NAME(ILLEGAL_ADDRESS); NAME(LAUNCH_OUT_OF_RESOURCES); NAME(NOT_SUPPORTED); NAME(STREAM_CAPTURE_UNSUPPORTED);
    NAME(STREAM_CAPTURE_INVALIDATED); NAME(STREAM_CAPTURE_IMPLICIT);
    default: *name = "an error that the stand-in has no name for";
    }
    return CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult code, const char **text) { return cuGetErrorName(code, text); }

/* ---- Streams and captures ---------------------------------------------------------------------------------------- */

/* A launch that a graph repeats. */
struct node {
    const struct kernel *kernel;
    size_t *values; /* the arguments, each of up to 8 bytes */
};

struct graph {
    struct node *nodes;
    long count;
    int destroyed;
};

struct stream {
    struct gpu *gpu;
    int blocking; /* whether it waits for the default stream */
    int destroyed;
    struct graph *capture; /* what launches become, or NULL */
    int spoiled;           /* whether the capture has seen a call that it forbids */
};

/* What this thread captures. */
static __thread struct stream *captured_here;

/* A stream, or NULL for the default one. */
static struct stream *stream_of(CUstream handle) {
    return handle > CU_STREAM_PER_THREAD ? (struct stream *)handle : NULL;
}

/* Whether a call is allowed that goes to no stream, or to the default one. While a stream is captured that waits for
   the default one, it is not. And what a thread does besides while it captures is done once, and never repeated by the
   graph: that may be `meant`. (In a relaxed capture, which all of them are here, a driver lets it pass.) */
static CUresult beside_captures(const char *call, int meant) {
    CUresult code = CUDA_SUCCESS;
    if (current()->blocking > 0)
        code = violation(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "%s while a stream that waits for it is captured", call);
    else if (captured_here != NULL && !meant)
        code = violation(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "%s in a capture", call);
    if (captured_here != NULL && code != CUDA_SUCCESS) captured_here->spoiled = 1;
    return code;
}

/* Whether work may go into a stream; `captured`: it is of a kind that becomes a part of a graph. */
static CUresult in_stream(const char *call, CUstream handle, int captured) {
    struct stream *stream = stream_of(handle);
    if (stream == NULL) return beside_captures(call, 0);
    if (stream->destroyed) return violation(CUDA_ERROR_INVALID_HANDLE, "%s in a stream that is destroyed", call);
    if (stream->gpu != current()) return violation(CUDA_ERROR_INVALID_HANDLE, "%s in a stream of another GPU", call);
    if (stream->capture == NULL || captured) return CUDA_SUCCESS;
    stream->spoiled = 1;
    return violation(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "%s in a stream that is captured", call);
}

CUresult cuStreamCreate(CUstream *handle, unsigned int flags) {
    ON_A_GPU(__func__);
    struct stream *stream = calloc(1, sizeof *stream);
    stream->gpu = current();
    stream->blocking = !(flags & CU_STREAM_NON_BLOCKING);
    counts.streams++;
    *handle = (CUstream)stream;
    return CUDA_SUCCESS;
}

CUresult cuStreamDestroy(CUstream handle) {
    ON_A_GPU(__func__);
    struct stream *stream = stream_of(handle);
    if (stream == NULL || stream->destroyed) return violation(CUDA_ERROR_INVALID_HANDLE, "a stream is destroyed twice");
    if (stream->capture != NULL) return violation(CUDA_ERROR_INVALID_HANDLE, "a stream is destroyed in its capture");
    stream->destroyed = 1;
    counts.streams--;
    return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream handle) {
    ON_A_GPU(__func__);
    return in_stream(__func__, handle, 0);
}

CUresult cuCtxSynchronize(void) {
    ON_A_GPU(__func__);
    if (current()->captures == 0) return CUDA_SUCCESS;
    return violation(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "%s while a stream is captured", __func__);
}

CUresult cuStreamBeginCapture(CUstream handle, CUstreamCaptureMode mode) {
    ON_A_GPU(__func__);
    struct stream *stream = stream_of(handle);
    if (mode != CU_STREAM_CAPTURE_MODE_RELAXED) return stand_in_lacks("captures that are not relaxed");
    if (stream == NULL) return violation(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "the default stream is captured");
    CUresult code = in_stream(__func__, handle, 0);
    if (code != CUDA_SUCCESS) return code;
    stream->capture = calloc(1, sizeof *stream->capture);
    stream->spoiled = 0;
    stream->gpu->captures++;
    stream->gpu->blocking += stream->blocking;
    captured_here = stream;
    counts.graphs++;
    counts.captures++;
    return CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream handle, CUgraph *graph) {
    ON_A_GPU(__func__);
    struct stream *stream = stream_of(handle);
    if (stream == NULL || stream->capture == NULL) return CUDA_ERROR_ILLEGAL_STATE;
    stream->gpu->captures--;
    stream->gpu->blocking -= stream->blocking;
    counts.graphs -= stream->spoiled;
    *graph = stream->spoiled ? NULL : (CUgraph)stream->capture;
    stream->capture = NULL;
    captured_here = NULL;
    return stream->spoiled ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS;
}

CUresult cuStreamGetCaptureInfo(CUstream handle, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph,
                                const CUgraphNode **dependencies, const CUgraphEdgeData **edges, size_t *count) {
    struct stream *stream = stream_of(handle);
    if (dependencies != NULL || edges != NULL) return stand_in_lacks("the dependencies in a capture");
    if (graph != NULL) *graph = stream == NULL ? NULL : (CUgraph)stream->capture;
    if (id != NULL) *id = 1;
    if (stream == NULL || stream->capture == NULL)
        *status = CU_STREAM_CAPTURE_STATUS_NONE;
    else
        *status = stream->spoiled ? CU_STREAM_CAPTURE_STATUS_INVALIDATED : CU_STREAM_CAPTURE_STATUS_ACTIVE;
    return CUDA_SUCCESS;
}

/* ---- Memory ------------------------------------------------------------------------------------------------------ */

/* Memory of a GPU, or page-locked memory of the host (`gpu` is NULL). Addresses grow and none is given twice: so the
   table is in their order, and a block that is gone is recognized for ever. */
struct block {
    char *start;
    size_t size, room;
    struct gpu *gpu;
    int freed;
};

#define REGION ((size_t)1 << 40)

static char *next_start;
static struct block *blocks;
static long count_of_blocks;

static struct block *block_of(CUdeviceptr address) {
    long first = 0, behind = count_of_blocks;
    while (first < behind) {
        long middle = (first + behind) / 2;
        if ((char *)address < blocks[middle].start)
            behind = middle;
        else if ((char *)address >= blocks[middle].start + blocks[middle].room)
            first = middle + 1;
        else
            return &blocks[middle];
    }
    return NULL;
}

/* A block of bytes that are not a number in any type of floats. Before the next block comes a page that nobody may
   touch, and what is freed nobody may touch either. */
static char *new_block(size_t size, struct gpu *gpu) {
    if (next_start == NULL)
        next_start = mmap(NULL, REGION, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    size_t page = sysconf(_SC_PAGESIZE), pages = (size + page - 1) / page * page;
    blocks = realloc(blocks, (count_of_blocks + 1) * sizeof *blocks);
    struct block *block = &blocks[count_of_blocks++];
    *block = (struct block){next_start, size, pages + page, gpu, 0};
    next_start += block->room;
    mprotect(block->start, pages, PROT_READ | PROT_WRITE);
    return memset(block->start, 0xff, size);
}

static CUresult free_block(CUdeviceptr address, int of_host) {
    struct block *block = block_of(address);
    if (block == NULL || block->start != (char *)address || (block->gpu == NULL) != of_host)
        return violation(CUDA_ERROR_INVALID_VALUE, "memory is freed that nobody has asked for");
    if (block->freed) return violation(CUDA_ERROR_INVALID_VALUE, "memory is freed twice");
    block->freed = 1;
    if (!of_host) block->gpu->used -= block->size;
    madvise(block->start, block->room, MADV_DONTNEED);
    mprotect(block->start, block->room, PROT_NONE);
    return CUDA_SUCCESS;
}

CUresult cuMemAlloc(CUdeviceptr *address, size_t size) {
    ON_A_GPU(__func__);
    CUresult code = beside_captures(__func__, 0);
    if (code != CUDA_SUCCESS) return code;
    if (size == 0) return violation(CUDA_ERROR_INVALID_VALUE, "%s of no bytes", __func__);
    if (current()->used + size > memory_of_gpu()) return CUDA_ERROR_OUT_OF_MEMORY;
    current()->used += size;
    counts.arrays++;
    *address = (CUdeviceptr)new_block(size, current());
    return CUDA_SUCCESS;
}

CUresult cuMemFree(CUdeviceptr address) {
    ON_A_GPU(__func__);
    CUresult code = beside_captures(__func__, 1); /* Python's collector comes when it likes */
    if (code == CUDA_SUCCESS) code = free_block(address, 0);
    counts.arrays -= code == CUDA_SUCCESS;
    return code;
}

CUresult cuMemHostAlloc(void **address, size_t size, unsigned int flags) {
    ON_A_GPU(__func__);
    CUresult code = beside_captures(__func__, 0);
    if (code != CUDA_SUCCESS) return code;
    counts.host_arrays++;
    *address = new_block(size, NULL);
    return CUDA_SUCCESS;
}

CUresult cuMemFreeHost(void *address) {
    ON_A_GPU(__func__);
    CUresult code = free_block((CUdeviceptr)address, 1);
    counts.host_arrays -= code == CUDA_SUCCESS;
    return code;
}

CUresult cuMemGetInfo(size_t *unused, size_t *total) {
    ON_A_GPU(__func__);
    *total = memory_of_gpu();
    *unused = *total - current()->used;
    return CUDA_SUCCESS;
}

CUresult cuPointerGetAttribute(void *value, CUpointer_attribute attribute, CUdeviceptr address) {
    ALONE;
    struct block *block = block_of(address);
    if (block == NULL || block->gpu == NULL || block->freed) return CUDA_ERROR_INVALID_VALUE;
    switch (attribute) {
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL: GIVE((int *)value, block->gpu->number);
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER: GIVE((CUdeviceptr *)value, address);
    default: return stand_in_lacks("the attribute %d of pointers", attribute);
    }
}

/* What is wrong with so many bytes at an address that a GPU is to use, or NULL. */
static const char *wrong_with(const struct block *block, CUdeviceptr address, size_t size) {
    if (block == NULL || block->gpu == NULL) return "what is no memory of a GPU";
    if (block->freed) return "memory that is freed";
    return (char *)address + size > block->start + block->size ? "what is longer than its memory" : NULL;
}

static CUresult is_there(const char *call, CUdeviceptr address, size_t size) {
    const char *what = wrong_with(block_of(address), address, size);
    return what == NULL ? CUDA_SUCCESS : violation(CUDA_ERROR_INVALID_VALUE, "%s of %s", call, what);
}

/* A copy; `written` and `read` are its addresses on a GPU, 0 where it is the host that is written or read. */
static CUresult copy(const char *call, CUstream stream, CUdeviceptr written, CUdeviceptr read, void *to,
                     const void *from, size_t size) {
    ON_A_GPU(call);
    CUresult code = in_stream(call, stream, 0);
    if (code == CUDA_SUCCESS && written != 0) code = is_there(call, written, size);
    if (code == CUDA_SUCCESS && read != 0) code = is_there(call, read, size);
    if (code == CUDA_SUCCESS) memmove(to, from, size);
    return code;
}

CUresult cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t size) {
    return copy(__func__, NULL, to, 0, (void *)to, from, size);
}

CUresult cuMemcpyDtoH(void *to, CUdeviceptr from, size_t size) {
    return copy(__func__, NULL, 0, from, to, (void *)from, size);
}

CUresult cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t size) {
    return copy(__func__, NULL, to, from, (void *)to, (void *)from, size);
}

CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t size, CUstream stream) {
    return copy(__func__, stream, to, 0, (void *)to, from, size);
}

/* ---- Compiled kernels -------------------------------------------------------------------------------------------- */

#define MOST_PARAMETERS 512

struct kernel {
    const char *name;
    int registers, shared, most_threads;
    int parameters, sizes[MOST_PARAMETERS]; /* bytes of each */
    int asked_for[MOST_GPUS];               /* dynamic shared memory, where more than 48 KB are wanted */
    int launched[MOST_GPUS];
    struct kernel *next; /* of the library */
};

/* A library of kernels is the first of them. */
static struct kernel *first_of(CUlibrary library) { return (struct kernel *)library; }

/* Attributes in the sections ".nv.info" of a cubin. */
enum { MAX_THREADS = 0x05, KPARAM_INFO = 0x17, REGCOUNT = 0x2f, WITH_VALUES = 4 };

static void read_attributes(struct kernel *kernel, const unsigned char *place, size_t size, unsigned int symbol) {
    const unsigned char *end = place + size;
    while (place < end) {
        unsigned int format = place[0], attribute = place[1], bytes = place[2] | place[3] << 8, values[3] = {0, 0, 0};
        place += 4;
        if (format != WITH_VALUES) continue;
        memcpy(values, place, bytes < sizeof values ? bytes : sizeof values);
        place += bytes;
        if (attribute == REGCOUNT && values[0] == symbol) kernel->registers = (int)values[1];
        if (attribute == MAX_THREADS) kernel->most_threads = (int)(values[0] * values[1] * values[2]);
        if (attribute == KPARAM_INFO) {
            int number = values[1] & 0xffff;
            if (number < MOST_PARAMETERS) kernel->sizes[number] = (int)(values[2] >> 18);
            if (number >= kernel->parameters) kernel->parameters = number + 1;
        }
    }
}

/* The rest of a name that begins so, or NULL. */
static const char *after(const char *name, const char *beginning) {
    size_t length = strlen(beginning);
    return strncmp(name, beginning, length) == 0 ? name + length : NULL;
}

/* A cubin is an ELF file. The code of a kernel is in `.text.NAME`; `.nv.info` tells the registers of all kernels, by
   their symbols, `.nv.info.NAME` the parameters and the threads that one was compiled for; `.nv.shared.NAME` is as
   large as its shared memory, of which the system has 1 KB. */
CUresult cuLibraryLoadData(CUlibrary *library, const void *code, CUjit_option *options, void **values,
                           unsigned int count, CUlibraryOption *library_options, void **library_values,
                           unsigned int library_count) {
    ON_A_GPU(__func__);
    CUresult allowed = beside_captures(__func__, 0);
    if (allowed != CUDA_SUCCESS) return allowed;
    if (memcmp(code, ELFMAG, SELFMAG) != 0) return violation(CUDA_ERROR_INVALID_IMAGE, "code that is no cubin");
    const char *file = code;
    const Elf64_Ehdr *head = code;
    const Elf64_Shdr *sections = (const Elf64_Shdr *)(file + head->e_shoff), *end = sections + head->e_shnum;
    const char *names = file + sections[head->e_shstrndx].sh_offset;
    struct kernel *first = NULL;
    for (const Elf64_Shdr *text = sections; text < end; text++) {
        const char *name = after(names + text->sh_name, ".text.");
        if (name == NULL) continue;
        struct kernel *kernel = calloc(1, sizeof *kernel);
        kernel->name = strdup(name);
        for (const Elf64_Shdr *section = sections; section < end; section++) {
            const char *of_all = names + section->sh_name, *info = after(of_all, ".nv.info.");
            const char *shared = after(of_all, ".nv.shared.");
            if (strcmp(of_all, ".nv.info") == 0 || (info != NULL && strcmp(info, name) == 0))
                read_attributes(kernel, (const unsigned char *)file + section->sh_offset, section->sh_size,
                                text->sh_info & 0xffffff);
            if (shared != NULL && strcmp(shared, name) == 0 && section->sh_size > 1024)
                kernel->shared = (int)section->sh_size - 1024;
        }
        if (kernel->registers == 0 || kernel->parameters > MOST_PARAMETERS)
            return stand_in_lacks("what it takes to read the cubin of %s", name);
        kernel->next = first;
        first = kernel;
    }
    *library = (CUlibrary)first;
    return CUDA_SUCCESS;
}

CUresult cuLibraryUnload(CUlibrary library) { return CUDA_SUCCESS; }

CUresult cuLibraryGetKernel(CUkernel *found, CUlibrary library, const char *name) {
    struct kernel *kernel = first_of(library);
    while (kernel != NULL && strcmp(kernel->name, name) != 0) kernel = kernel->next;
    *found = (CUkernel)kernel;
    return kernel == NULL ? CUDA_ERROR_NOT_FOUND : CUDA_SUCCESS;
}

/* Threads of a block for which there are registers: a warp takes 8 of a thread's at a time. */
static int most_threads(const struct kernel *kernel) {
    int threads = 65536 / ((kernel->registers + 7) / 8 * 8) / 32 * 32;
    if (kernel->most_threads > 0 && kernel->most_threads < threads) threads = kernel->most_threads;
    return threads < 1024 ? threads : 1024;
}

/* Bytes of dynamic shared memory that a launch may have: those beyond 48 KB have to be asked for on each GPU. */
static int most_shared(const struct kernel *kernel, int gpu) {
    int granted = (48 << 10) - kernel->shared;
    return kernel->asked_for[gpu] > granted ? kernel->asked_for[gpu] : granted;
}

CUresult cuKernelGetAttribute(int *value, CUfunction_attribute attribute, CUkernel handle, CUdevice device) {
    const struct kernel *kernel = (struct kernel *)handle;
    switch (attribute) {
    case CU_FUNC_ATTRIBUTE_NUM_REGS: GIVE(value, kernel->registers);
    case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES: GIVE(value, kernel->shared);
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: GIVE(value, most_threads(kernel));
    case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
    case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES: GIVE(value, 0);
    default: return stand_in_lacks("the attribute %d of kernels", attribute);
    }
}

CUresult cuKernelSetAttribute(CUfunction_attribute attribute, int value, CUkernel handle, CUdevice device) {
    struct kernel *kernel = (struct kernel *)handle;
    if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES)
        return stand_in_lacks("the attribute %d of kernels, to be set", attribute);
    if (value + kernel->shared > 227 << 10)
        return violation(CUDA_ERROR_INVALID_VALUE, "%d bytes of shared memory for %s", value, kernel->name);
    kernel->asked_for[device] = value;
    return CUDA_SUCCESS;
}

/* ---- Launches and graphs ----------------------------------------------------------------------------------------- */

/* Launches and replays before the one that loses the GPU; -1: all go well. */
static long until_lost = -1;

/* A kernel that fails takes its GPU along. Its launch goes well; later calls tell. */
static void lose(void) { current()->fault = CUDA_ERROR_ILLEGAL_ADDRESS; }

static CUresult run(void) {
    if (until_lost >= 0 && until_lost-- == 0) lose();
    return CUDA_SUCCESS;
}

/* A kernel uses its arguments: if their memory is not there, the GPU is lost. Numba passes an array as two numbers that
   are 0 here, the count of its elements, the bytes of one, its address, its shape and its steps. */
static void use_arguments(const char *launch, const struct kernel *kernel, const size_t *values) {
    for (int i = 0; i < kernel->parameters; i++) {
        struct block *block = kernel->sizes[i] == sizeof *values ? block_of(values[i]) : NULL;
        if (block == NULL) continue;
        int is_array = i >= 4 && values[i - 4] == 0 && values[i - 3] == 0;
        size_t bytes = is_array ? values[i - 2] * values[i - 1] : 0;
        const char *what = wrong_with(block, values[i], bytes);
        if (what == NULL && block->gpu != current()) what = "memory of another GPU";
        if (what == NULL) continue;
        violation(CUDA_SUCCESS, "%s of %s, which gets %s", launch, kernel->name, what);
        lose();
    }
}

static CUresult can_be_launched(const struct kernel *kernel, const CUlaunchConfig *config) {
    size_t threads = (size_t)config->blockDimX * config->blockDimY * config->blockDimZ;
    unsigned int shared = most_shared(kernel, current()->number);
    if (threads == 0 || threads > (size_t)most_threads(kernel))
        return violation(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "%zu threads in a block of %s, which can have %d", threads,
                         kernel->name, most_threads(kernel));
    if (config->gridDimX - 1 > 0x7ffffffe || config->gridDimY - 1 > 65534 || config->gridDimZ - 1 > 65534)
        return violation(CUDA_ERROR_INVALID_VALUE, "a grid of %u x %u x %u blocks of %s", config->gridDimX,
                         config->gridDimY, config->gridDimZ, kernel->name);
    if (config->sharedMemBytes > shared)
        return violation(CUDA_ERROR_INVALID_VALUE, "%u bytes of shared memory for %s, which can have %u",
                         config->sharedMemBytes, kernel->name, shared);
    return config->numAttrs == 0 ? CUDA_SUCCESS : stand_in_lacks("launches with attributes");
}

static void add_node(struct graph *graph, struct node node) {
    graph->nodes = realloc(graph->nodes, (graph->count + 1) * sizeof *graph->nodes);
    graph->nodes[graph->count++] = node;
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **arguments, void **extra) {
    ON_A_GPU(__func__);
    struct kernel *kernel = (struct kernel *)function; /* a function is a kernel on the current GPU */
    struct stream *stream = stream_of(config->hStream);
    CUresult code = in_stream("a launch", config->hStream, 1);
    if (code == CUDA_SUCCESS) code = can_be_launched(kernel, config);
    if (code != CUDA_SUCCESS) return code;
    size_t *values = calloc(kernel->parameters + 1, sizeof *values);
    for (int i = 0; i < kernel->parameters; i++) {
        if (kernel->sizes[i] > (int)sizeof *values) return stand_in_lacks("arguments of %d bytes", kernel->sizes[i]);
        memcpy(&values[i], arguments[i], kernel->sizes[i]);
    }
    use_arguments("a launch", kernel, values);
    if (stream != NULL && stream->capture != NULL) {
        if (!kernel->launched[current()->number]) /* which is when the driver loads it */
            violation(CUDA_SUCCESS, "the first launch of %s is in a capture", kernel->name);
        add_node(stream->capture, (struct node){kernel, values});
        return CUDA_SUCCESS;
    }
    free(values);
    kernel->launched[current()->number] = 1;
    counts.launches++;
    return run();
}

CUresult cuGraphInstantiateWithParams(CUgraphExec *executable, CUgraph handle,
                                      CUDA_GRAPH_INSTANTIATE_PARAMS *parameters) {
    ON_A_GPU(__func__);
    struct graph *graph = (struct graph *)handle, *made = calloc(1, sizeof *made);
    for (long i = 0; i < graph->count; i++) add_node(made, graph->nodes[i]);
    parameters->result_out = CUDA_GRAPH_INSTANTIATE_SUCCESS;
    counts.executables++;
    *executable = (CUgraphExec)made;
    return CUDA_SUCCESS;
}

CUresult cuGraphLaunch(CUgraphExec executable, CUstream stream) {
    ON_A_GPU(__func__);
    struct graph *graph = (struct graph *)executable;
    CUresult code = in_stream(__func__, stream, 0);
    if (graph->destroyed) return violation(CUDA_ERROR_INVALID_HANDLE, "a replay of a graph that is destroyed");
    if (code != CUDA_SUCCESS) return code;
    for (long i = 0; i < graph->count; i++) use_arguments("a replay", graph->nodes[i].kernel, graph->nodes[i].values);
    counts.replays++;
    counts.replayed += graph->count;
    return run();
}

static CUresult destroy(struct graph *graph, long *count) {
    ALONE;
    if (graph->destroyed) return violation(CUDA_ERROR_INVALID_HANDLE, "a graph is destroyed twice");
    graph->destroyed = 1;
    (*count)--;
    return CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph graph) { return destroy((struct graph *)graph, &counts.graphs); }
CUresult cuGraphExecDestroy(CUgraphExec graph) { return destroy((struct graph *)graph, &counts.executables); }

/* What cuda.core ties to a graph, to be told when that is gone. Here nobody is told: it is kept for ever. */
CUresult cuUserObjectCreate(CUuserObject *object, void *kept, CUhostFn told, unsigned int count, unsigned int flags) {
    GIVE(object, (CUuserObject)&counts);
}

CUresult cuGraphRetainUserObject(CUgraph graph, CUuserObject object, unsigned int count, unsigned int flags) {
    return CUDA_SUCCESS;
}

CUresult cuGraphReleaseUserObject(CUgraph graph, CUuserObject object, unsigned int count) { return CUDA_SUCCESS; }

/* ---- How functions are found, and what tests ask ----------------------------------------------------------------- */

/* Every function of cuda.h in its newest version, made by build.py. */
extern const struct function {
    const char *name;
    void *function;
} stand_in_functions[];

CUresult cuGetProcAddress(const char *name, void **function, int version, cuuint64_t flags,
                          CUdriverProcAddressQueryResult *status) {
    const struct function *entry = stand_in_functions;
    while (entry->name != NULL && strcmp(entry->name, name) != 0) entry++;
    *function = entry->function;
    if (status != NULL)
        *status = *function == NULL ? CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND : CU_GET_PROC_ADDRESS_SUCCESS;
    return *function == NULL ? CUDA_ERROR_NOT_FOUND : CUDA_SUCCESS;
}

/* CUDA's runtime asks for tables that no header tells of, and does without. */
CUresult cuGetExportTable(const void **table, const CUuuid *uuid) { return CUDA_ERROR_NOT_FOUND; }

/* So many launches and replays go well; the next one loses its GPU. */
void stand_in_lose_after(long launches) { until_lost = launches; }

#define COUNT(name) if (strcmp(what, #name) == 0) return counts.name

long stand_in_count(const char *what) {
    ALONE;
    COUNT(launches); COUNT(replays); COUNT(replayed); COUNT(captures);
    COUNT(streams); COUNT(graphs); COUNT(executables); COUNT(arrays); COUNT(host_arrays);
    return -1;
}
